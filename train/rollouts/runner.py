"""Plays episodes: windows, references, concurrency, deadlines and retries.

    with open_runner(settings) as runner:
        requests = runner.draw_requests(task_ids, stage="grpo", step=0, group_size=8)
        episodes = runner.play_model(requests, model, policy="grpo")

A group's episodes share task, window and every random draw but the sampling. An infrastructure
failure is retried in a fresh environment and then recorded as unscorable; it never becomes a
reward.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from envs.environment import Environment, EpisodeMetadata, Limits
from envs.episode import Bench, run_episode
from envs.errors import UserError
from envs.grading.graders import Equipment
from envs.habits.options import ScriptOptions, leave_out
from envs.policies import ScriptedPolicy, make_script
from envs.prompts import system_prompt
from envs.records import (
    Episode,
    Outcome,
    Policy,
    RepairTask,
    Strategy,
    Thresholds,
)
from envs.rendering import ChatFormat
from envs.tasks.set_python import choose_python
from envs.tasks.store import TaskStore
from envs.tools import NAMES, list_tools
from envs.workers.limits import Failure, insist
from envs.workers.pool import WorkerPool
from envs.workers.workbench import Workbench, open_workbench
from rewards.cost import billed_tokens
from train.config.settings import Settings
from train.models.model import chat_format, load_tokenizer, run_tokenizer
from train.rollouts.backend import make_sampler
from train.rollouts.concurrency import Result, Sampler, count_tool_workers, run_bounded
from train.rollouts.least_peaks import LeastPeaks
from train.rollouts.requests import (
    DrawWindow,
    EpisodeRequest,
    draw_requests,
    draw_thresholds_of,
)
from train.rollouts.windows import Windows
from train.stages.run_dir import cache_dir, tasks_dir

# What offers all tools, and the shortest.
_PROMPTS: tuple[Strategy, ...] = ("learned", "full_history")

MakePolicy = Callable[[EpisodeRequest], Policy]
"""Makes a fresh policy for an episode; called once per attempt."""


@dataclass
class RolloutRunner:
    """Everything an episode needs besides its policy.

    Attributes:
        store: The task set.
        chat: Encodes and parses for the policy's vocabulary.
        settings: The experiment.
        bench: Carries out tool calls and grades submissions.
        chats: What encodes for other strategies, where their tools are in the template.
        peaks_dir: Where least peaks are kept; None: nowhere.
    """

    store: TaskStore
    chat: ChatFormat
    settings: Settings
    bench: Bench
    chats: Mapping[Strategy, ChatFormat] = field(default_factory=dict)
    peaks_dir: Path | None = None
    _gold_costs: dict[str, float] = field(default_factory=dict)

    @cached_property
    def windows(self) -> Windows:
        """Draws the windows of groups."""
        chats = {name: self.chats.get(name, self.chat) for name in _PROMPTS}
        tools = self.settings.prompt.tools
        peaks = LeastPeaks(
            self.store,
            chats=chats,
            systems={n: system_prompt(tools, n, example=chats[n].example) for n in _PROMPTS},
            limits=self._limits(window_tokens=0),
            folder=self.peaks_dir,
        )
        return Windows(self.settings, peaks, list_split=self._list_split)

    def _list_split(self, task_id: str) -> list[str]:
        """Return all tasks of the split to which a task belongs."""
        return [task.id for task in self.store.split(self.store.public[task_id].split)]

    def _limits(self, *, window_tokens: int) -> Limits:
        context = self.settings.context
        return Limits(
            window_tokens=window_tokens,
            max_turns=context.max_turns,
            max_new_tokens=context.max_new_tokens,
            observation_tokens=context.observation_tokens,
            max_sampled_tokens=context.max_sampled_tokens,
        )

    def make_environment(
        self, task: RepairTask, *, window_tokens: int, thresholds: Thresholds | None = None
    ) -> Environment:
        """Return a fresh environment of `task`; without thresholds, one that rewrites nothing."""
        context = self.settings.context
        return Environment(
            task,
            self.store.workspace(task),
            chat=self.chat,
            system=system_prompt(
                self.settings.prompt.tools,
                context.strategy,
                example=self.chat.example,
                without=context.without,
            ),
            limits=self._limits(window_tokens=window_tokens),
            strategy=context.strategy,
            thresholds=thresholds,
            without=context.without,
        )

    def make_script(
        self, task_id: str, name: str, *, options: ScriptOptions | None = None
    ) -> ScriptedPolicy:
        """Return a scripted policy for one episode of a task, that uses the tools there are."""
        context = self.settings.context
        offered = list_tools(context.strategy, context.without)
        missing = {*NAMES, *context.without}.difference(offered)
        options = leave_out(options or ScriptOptions(), missing)
        task, limit = self.store.public[task_id], self.settings.context.max_new_tokens
        script = make_script(
            name,  # type: ignore[arg-type]
            task=task,
            hidden=self.store.hidden[task_id],
            files=self.store.workspace(task),
            chat=self.chat,
            options=options,
            max_new_tokens=limit,
        )
        return ScriptedPolicy(script, chat=self.chat, max_new_tokens=limit)

    def measure_gold(self, task_id: str) -> float:
        """Return what a task costs `gold` in billed tokens; it plays ungraded, once."""
        if task_id not in self._gold_costs:
            self._gold_costs[task_id] = float(billed_tokens(self.play_ungraded(task_id, "gold")))
        return self._gold_costs[task_id]

    def play_ungraded(
        self, task_id: str, name: str, *, options: ScriptOptions | None = None
    ) -> Episode:
        """Play a script in this process, in twice the largest window.

        Not in an endless one: results state the tokens left, and their digits are tokens too.
        """
        window_tokens = 2 * self.settings.largest_window
        environment = self.make_environment(self.store.public[task_id], window_tokens=window_tokens)
        policy = self.make_script(task_id, name, options=options)
        environment.play_out(policy.next_sample)
        metadata = EpisodeMetadata("reference", 0, 0, "script", 0, 0.0, False)
        return environment.record(metadata, outcome=None)

    async def play(
        self,
        request: EpisodeRequest,
        make_policy: MakePolicy,
        *,
        policy: str,
        policy_version: int = 0,
    ) -> Episode:
        """Play one episode; retry infrastructure failures, then record it as unscorable.

        Args:
            request: What to play.
            make_policy: Makes its policy.
            policy: Its name in the record.
            policy_version: Optimizer steps behind it.
        """
        metadata = EpisodeMetadata(
            group_id=request.group_id,
            sample_index=request.sample_index,
            seed=request.seed,
            policy=policy,
            policy_version=policy_version,
            reference_cost=self.measure_gold(request.task_id),
            needs_rewrite=self.windows.needs_rewrite(request.task_id, request.window_tokens),
            gold_spans=self.store.hidden[request.task_id].gold_spans,
        )
        task = self.store.public[request.task_id]
        thresholds = draw_thresholds_of(request, self.settings)
        environment: Environment | None = None

        async def attempt(bench: Bench) -> Episode:
            nonlocal environment
            environment = self.make_environment(
                task, window_tokens=request.window_tokens, thresholds=thresholds
            )
            return await run_episode(
                environment,
                make_policy(request),
                bench=bench,
                metadata=metadata,
                deadline_s=self.settings.rollouts.turn_limit_s,
            )

        found = await self.insist(attempt)
        if isinstance(found, Episode):
            return found
        assert environment is not None, "each attempt begins with one"
        environment.stop_reason = found.stop_reason
        outcome = Outcome(
            fail_to_pass_rate=0,
            pass_to_pass_rate=0,
            unscorable=found.cause,
            failed_part=found.part,
            sandbox_level="unknown",
        )
        return environment.record(metadata, outcome=outcome)

    async def insist(self, attempt: Callable[[Bench], Awaitable[Result]]) -> Result | Failure:
        """Play until the machine does not fail, within this run's limits; returns how it did."""
        limits = self.settings.rollouts
        return await insist(
            attempt, self.bench, call_s=limits.tool_limit_s, episode_s=limits.episode_limit_s
        )

    def play_all(
        self,
        requests: Sequence[EpisodeRequest],
        make_policy: MakePolicy,
        *,
        policy: str,
        concurrency: int,
        policy_version: int = 0,
        sampler: Sampler | None = None,
        on_episode: Callable[[], None] = lambda: None,
    ) -> list[Episode]:
        """Play all requests, `concurrency` at a time; returns their episodes in order.

        `sampler`, if the policies share one, keeps nothing for those that ended, and waits for all
        of them if it decodes in waves.
        """

        async def play(request: EpisodeRequest) -> Episode:
            episode = await self.play(
                request, make_policy, policy=policy, policy_version=policy_version
            )
            if sampler:
                sampler.forget(request.seed)
            on_episode()
            return episode

        return run_bounded(play, requests, concurrency=concurrency, sampler=sampler)

    def play_model(
        self,
        requests: Sequence[EpisodeRequest],
        model: Any,
        *,
        policy: str,
        policy_version: int = 0,
        greedy: bool = False,
        on_episode: Callable[[], None] = lambda: None,
    ) -> list[Episode]:
        """Play all requests with a model, each with a generator of its own; see `play_all`.

        `model` may be one that servers hold (`train/rollouts/backend.py`). There are so many
        episodes that the batch is full while all tool workers are busy, too.
        """
        sampler = make_sampler(model, self.chat, self.settings, greedy=greedy)
        waiting = 0 if sampler.in_waves else count_tool_workers(self.settings)
        return self.play_all(
            requests,
            lambda request: sampler.policy(seed=request.seed, group=request.group_id),
            policy=policy,
            policy_version=policy_version,
            concurrency=sampler.max_rows + waiting,
            sampler=sampler,
            on_episode=on_episode,
        )

    def draw_requests(
        self,
        task_ids: Sequence[str],
        *,
        stage: str,
        step: int = 0,
        group_size: int = 1,
        first_group: int = 0,
        window_of: DrawWindow | None = None,
    ) -> list[EpisodeRequest]:
        """Return the requests of one step, as `train/rollouts/requests.py` draws them.

        Windows come as the settings say, if not from `window_of`.
        """
        return draw_requests(
            task_ids,
            seed=self.settings.run.seed,
            window_of=window_of or self.windows.draw,
            stage=stage,
            step=step,
            group_size=group_size,
            first_group=first_group,
        )


@contextmanager
def open_runner(
    settings: Settings,
    *,
    tokenizer: Any = None,
    open_bench: Callable[..., AbstractContextManager[Workbench]] = open_workbench,
) -> Iterator[RolloutRunner]:
    """Open the task set, the tokenizer and the workers of a run; end the workers at the end.

    Args:
        settings: The experiment; its tasks and tokenizer must exist.
        tokenizer: If other than the run's, which may not be there before a dry run.
        open_bench: What opens the workbench of each worker.

    Raises:
        UserError: As `open_tasks`; or the chat template does not serve.
    """
    store, equipment = open_tasks(settings)
    tokenizer = tokenizer or load_tokenizer(run_tokenizer(settings))
    chat, chats = chat_format(tokenizer, settings), dict[Strategy, ChatFormat]()
    if settings.prompt.tools == "full":
        for name in _PROMPTS:
            context = settings.context.model_copy(update={"strategy": name, "without": []})
            chats[name] = chat_format(tokenizer, settings.model_copy(update={"context": context}))
    opener = partial(
        open_bench,
        store,
        equipment=equipment,
        second_runner_share=settings.reward.second_runner_share,
        cache_dir=cache_dir(settings),
    )
    with WorkerPool(
        opener,
        num_workers=count_tool_workers(settings),
        near=lambda task_id: store.hidden[task_id].runtime,
    ) as pool:
        folder = cache_dir(settings) / "least_peaks"
        yield RolloutRunner(store, chat, settings, pool, chats=chats, peaks_dir=folder)


def open_tasks(settings: Settings) -> tuple[TaskStore, Equipment]:
    """Open the task set, narrowed as its settings say, with what its graders need.

    Raises:
        UserError: It is damaged, or nothing is left of a split; there is no sandbox, no second
            runner where one is configured, or nothing that it would run.
    """
    store = TaskStore.open(tasks_dir(settings)).narrow(settings.tasks.difficulty)
    if settings.tasks.recorded_calls == "required":
        store = store.keep_recorded()
    share, cache = settings.reward.second_runner_share, cache_dir(settings)
    if share and all(hidden.grader == "io" for hidden in store.hidden.values()):
        raise UserError(
            "reward.second_runner_share has no suite to run a second time",
            got=f"the io grader alone in {store.folder}",
            remedy="set it to 0, or name tasks of real projects in tasks.dir",
        )
    python = choose_python(store, settings.tasks.python, cache_dir=cache)
    return store, Equipment.find(store, second_runner_share=share, cache_dir=cache, python=python)
