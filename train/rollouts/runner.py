"""Groups of episodes: windows, references, concurrency, deadlines and retries.

A group's episodes share task, window and every random draw but the sampling. An infrastructure
failure is retried in a fresh environment and then recorded as unscorable; it never becomes a
reward.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from envs.environment import Environment, EpisodeMetadata, Limits
from envs.episode import Bench, run_episode
from envs.errors import InfrastructureError
from envs.files import hash_text
from envs.policies import ScriptedPolicy, ScriptOptions, make_script
from envs.prompts import system_prompt
from envs.records import (
    Episode,
    FailedPart,
    HiddenTask,
    Outcome,
    Policy,
    RepairTask,
    StopReason,
)
from envs.rendering import ChatFormat
from envs.tasks.store import TaskStore
from rewards.cost import billed_tokens, peak_context
from train.config.settings import Settings
from train.rollouts.engine import Engine, ModelPolicy

_ATTEMPTS = 3
_ATTEMPTS_IN_TIME = 2  # of those, that may end at the deadline: the wait must have an end
DEADLINE_S = 600.0  # a turn's tools or a grading that take longer hang; each test run has a limit


@dataclass(frozen=True)
class Reference:
    """What a task costs `gold` in billed tokens, and the least window that needs no rewrite.

    A smaller window forces `evict` or `compact`: the views of the thriftiest reader do not fit
    into it.
    """

    cost: float
    least_window: int


@dataclass(frozen=True)
class Request:
    """One episode to play."""

    task_id: str
    group_id: str
    sample_index: int
    window_tokens: int
    seed: int


@dataclass(frozen=True)
class _Failure:
    """How an attempt at an episode was broken off."""

    cause: str
    part: FailedPart


def _are_enough(failures: Sequence[_Failure]) -> bool:
    """Tell whether an episode that failed so often is unscorable."""
    num_late = sum(failure.part == "timeout" for failure in failures)
    return len(failures) >= _ATTEMPTS or num_late >= _ATTEMPTS_IN_TIME


@dataclass
class Arena:
    """Everything an episode needs besides its policy.

    Attributes:
        store: The task set.
        chat: Encodes and parses for the policy's vocabulary.
        settings: The experiment.
        bench: Carries out tool calls and grades submissions.
        max_turns: Turns per episode.
        deadline_s: Wall seconds for the tools of one turn, or a grading.
    """

    store: TaskStore
    chat: ChatFormat
    settings: Settings
    bench: Bench
    max_turns: int
    deadline_s: float = DEADLINE_S
    _references: dict[str, Reference] = field(default_factory=dict)

    def environment(self, task: RepairTask, *, window_tokens: int) -> Environment:
        """Return a fresh environment of `task`."""
        context = self.settings.context
        return Environment(
            task,
            self.store.workspace(task),
            chat=self.chat,
            system=system_prompt(
                self.settings.prompt.tools, context.strategy, example=self.chat.example
            ),
            limits=Limits(
                window_tokens=window_tokens,
                max_turns=self.max_turns,
                max_new_tokens=context.max_new_tokens,
                observation_tokens=context.observation_tokens,
                max_sampled_tokens=context.max_sampled_tokens,
            ),
            strategy=context.strategy,
        )

    def script(
        self, task: RepairTask, name: str, *, options: ScriptOptions | None = None
    ) -> ScriptedPolicy:
        """Return a scripted policy for one episode of `task`, that uses the tools there are."""
        if self.settings.context.strategy == "full_history":
            options = replace(options or ScriptOptions(), rewrite="none", note=False)
        script = make_script(
            name,  # type: ignore[arg-type]
            task=task,
            hidden=self.hidden(task),
            files=self.store.workspace(task),
            chat=self.chat,
            options=options,
        )
        limit = self.settings.context.max_new_tokens
        return ScriptedPolicy(script, chat=self.chat, max_new_tokens=limit)

    def hidden(self, task: RepairTask) -> HiddenTask:
        """Return the private half; for grading and scripts only."""
        return self.store.hidden[task.id]

    def reference(self, task: RepairTask) -> Reference:
        """Play `gold` and the thriftiest reader, ungraded, in twice the largest window.

        Not in an endless one: results state the tokens left, and their digits are tokens too.
        """
        if task.id not in self._references:
            thrifty = ScriptOptions(find="search", submit_with_edit=True, rewrite="none")
            gold = self._dry(task, self.script(task, "gold"))
            reader = self._dry(task, self.script(task, "careful", options=thrifty))
            self._references[task.id] = Reference(
                cost=float(billed_tokens(gold)),
                least_window=peak_context(reader) + self.settings.context.max_new_tokens,
            )
        return self._references[task.id]

    def _dry(self, task: RepairTask, policy: ScriptedPolicy) -> Episode:
        largest = self.settings.context.window_tokens[1]
        environment = self.environment(task, window_tokens=2 * largest)
        while environment.stop_reason is None:
            environment.step(policy.next_sample(environment.view()))
        metadata = EpisodeMetadata("reference", 0, 0, "script", 0, 0.0, False)
        return environment.record(metadata, outcome=None)

    async def play(
        self,
        request: Request,
        policy_of: Callable[[Request], Policy],
        *,
        policy: str,
        policy_version: int = 0,
    ) -> Episode:
        """Play one episode; retry infrastructure failures, then record it as unscorable.

        Args:
            request: What to play.
            policy_of: Makes a fresh policy, once per attempt.
            policy: Its name in the record.
            policy_version: Optimizer steps behind it.
        """
        task = self.store.public[request.task_id]
        reference = self.reference(task)
        metadata = EpisodeMetadata(
            group_id=request.group_id,
            sample_index=request.sample_index,
            seed=request.seed,
            policy=policy,
            policy_version=policy_version,
            reference_cost=reference.cost,
            forced=request.window_tokens < reference.least_window,
        )

        failures: list[_Failure] = []
        while not _are_enough(failures):
            environment = self.environment(task, window_tokens=request.window_tokens)
            try:
                return await run_episode(
                    environment,
                    policy_of(request),
                    bench=self.bench,
                    metadata=metadata,
                    deadline_s=self.deadline_s,
                )
            except InfrastructureError as error:
                failures.append(_Failure(str(error), error.part or "other"))
                environment.stop_reason = StopReason.ENVIRONMENT_ERROR
            except TimeoutError:
                failures.append(_Failure(f"no end after {self.deadline_s:g} s", "timeout"))
                environment.stop_reason = StopReason.TIMEOUT
        failed = Outcome(
            fail_to_pass_rate=0,
            pass_to_pass_rate=0,
            unscorable=failures[-1].cause,
            failed_part=failures[-1].part,
            sandbox_level="unknown",
        )
        return environment.record(metadata, outcome=failed)

    def play_all(
        self,
        requests: Sequence[Request],
        policy_of: Callable[[Request], Policy],
        *,
        policy: str,
        concurrency: int,
        policy_version: int = 0,
        engine: Engine | None = None,
        on_episode: Callable[[Request, Episode], None] | None = None,
    ) -> list[Episode]:
        """Play all requests and return their episodes in order.

        `concurrency` workers play one episode after another; `engine`, if the policies share one,
        waits for all workers before it decodes, so its batches do not depend on who is faster.
        """
        queue = iter(enumerate(requests))
        episodes: dict[int, Episode] = {}
        num_workers = min(concurrency, len(requests))

        async def work() -> None:
            try:
                for index, request in queue:
                    episodes[index] = await self.play(
                        request, policy_of, policy=policy, policy_version=policy_version
                    )
                    if on_episode:
                        on_episode(request, episodes[index])
            finally:
                if engine:
                    engine.leave()

        async def run() -> None:
            if engine:
                engine.join(num_workers)
            await asyncio.gather(*(work() for _ in range(num_workers)))

        asyncio.run(run())
        return [episodes[index] for index in range(len(requests))]


def model_policy(engine: Engine) -> Callable[[Request], Policy]:
    """Return what makes an episode's policy: the engine, and a generator of the episode's own."""
    return lambda request: ModelPolicy(engine, torch.Generator().manual_seed(request.seed))


def draw_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on all parts, such as (run seed, step, task, sample)."""
    return int(hash_text("/".join(map(str, parts)))[:16], 16) >> 1


def draw_window(settings: Settings, *parts: object) -> int:
    """Draw the window of a group, in tokens, uniformly between the two ends of the setting."""
    low, high = settings.context.window_tokens
    return random.Random(draw_seed(settings.run.seed, "window", *parts)).randint(low, high)


def group_requests(
    settings: Settings,
    task_ids: Sequence[str],
    *,
    stage: str,
    step: int,
    group_size: int,
    first_group: int = 0,
) -> list[Request]:
    """Return the requests of one step, group after group.

    Windows and seeds depend on run seed, stage, step, place of the group and sample, not on the
    rank that plays it.
    """
    return [
        Request(
            task_id=task_id,
            group_id=f"{stage}/{step}/{place}",
            sample_index=index,
            window_tokens=draw_window(settings, stage, step, place, task_id),
            seed=draw_seed(settings.run.seed, stage, step, place, task_id, index),
        )
        for place, task_id in enumerate(task_ids, start=first_group)
        for index in range(group_size)
    ]


def forced_requests(arena: Arena, tasks: Sequence[RepairTask], *, stage: str) -> list[Request]:
    """Return one request per task that some window of the run forces, in such a window."""
    low, high = arena.settings.context.window_tokens
    requests = []
    for place, task in enumerate(tasks):
        least = arena.reference(task).least_window
        if least > low:
            seed = draw_seed(arena.settings.run.seed, stage, "forced", place, task.id)
            window = random.Random(seed).randint(low, min(high, least - 1))
            requests.append(Request(task.id, f"{stage}/forced/{place}", 0, window, seed))
    return requests
