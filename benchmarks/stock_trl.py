"""Our tasks and tools behind stock TRL's interface, to compare with: `environment_factory`.

Each episode is our own `Environment` under the strategy `full_history`, since TRL trains one stream
of tokens that only grows: same prompts, limits and results. TRL renders the results and samples.
What it has no word for stays as it is: an episode that has ended here goes on there until the model
calls nothing or may not call any more.
"""

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_template

from envs.environment import Environment, EpisodeMetadata
from envs.grading.graders import make_grader
from envs.prompts import system_prompt
from envs.records import Sample, StopReason, ToolCall
from envs.tools import Toolbox, list_tools
from envs.workers.workbench import Workbench
from rewards.outcome import is_solved
from train.config.settings import Settings
from train.models.model import load_tokenizer, run_tokenizer, trains_in_bf16
from train.rollouts.runner import EpisodeRequest, RolloutRunner, open_tasks
from train.stages.run_dir import cache_dir

_ENDED = "the episode has ended"
_UNKNOWN = EpisodeMetadata("stock", 0, 0, "stock", 0, 0.0, False)


class StockEpisode:
    """One episode as TRL wants it: `reset`, `get_reward`, and a method for each tool.

    Args:
        runner: Makes its environments.
        bench: Carries out the tools, in this process, as TRL does.
    """

    def __init__(self, runner: RolloutRunner, bench: Workbench) -> None:
        self._runner, self._bench = runner, bench
        self._environment: Environment | None = None

    def reset(self, *, task_id: str, window_tokens: int, **_: Any) -> None:
        """Begin an episode."""
        task = self._runner.store.public[task_id]
        self._environment = self._runner.make_environment(task, window_tokens=window_tokens)

    def get_reward(self) -> float:
        """Return 1 if a repair was submitted that passes."""
        environment = self._environment
        assert environment is not None
        if environment.stop_reason is not StopReason.SUBMITTED:
            return 0.0
        task, files = environment.task, environment.workspace.files
        kept = {path: files[path] for path in task.editable if path in files}
        outcome = self._bench.grade(task.id, kept)
        return float(is_solved(environment.record(_UNKNOWN, outcome=outcome)))

    def _play(self, name: str, arguments: dict[str, Any]) -> str:
        environment = self._environment
        assert environment is not None
        if environment.stop_reason is not None:
            return _ENDED
        ids = self._runner.chat.call_ids([ToolCall(name=name, arguments=arguments)])
        calls = environment.begin(
            Sample(token_ids=ids, sampling_logps=(0.0,) * len(ids), finish="stop")
        )
        workspace = environment.workspace
        done = self._bench.use_tools(environment.task.id, workspace.changes(), calls)
        workspace.take(done.changes)
        environment.finish(done.results)
        return _ENDED if environment.stop_reason else environment.view().observations[-1].text


def _add_tool(name: str) -> None:
    """Give `StockEpisode` the method of a tool, with our signature and docstring."""
    ours = getattr(Toolbox, name)

    @functools.wraps(ours)
    def tool(self: StockEpisode, **arguments: Any) -> str:
        return self._play(name, arguments)

    tool.__annotations__ = {**ours.__annotations__, "return": str}
    setattr(StockEpisode, name, tool)


for _name in list_tools("full_history"):
    _add_tool(_name)


def open_stock(
    stack: ExitStack,
    runner: RolloutRunner,
    model: Any,
    *,
    num_episodes: int,
    folder: Path,
) -> GRPOTrainer:
    """Return stock TRL on these tasks; its graders end with `stack`."""
    settings = runner.settings
    cache = cache_dir(settings)
    grader = make_grader(runner.store, cache_dir=cache, equipment=open_tasks(settings)[1])
    bench = Workbench(runner.store, stack.enter_context(grader))
    tokenizer = load_tokenizer(run_tokenizer(settings))
    tokenizer.response_template = qwen3_template  # reads calls as our templates write them
    if settings.prompt.tools != "full":  # TRL always hands over schemas
        tokenizer.chat_template = "{%- set tools = none -%}" + str(tokenizer.chat_template)
    return GRPOTrainer(
        model,
        reward_funcs=[],
        args=stock_config(settings, folder, num_rows=num_episodes),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": ""}]}]),
        processing_class=tokenizer,
        environment_factory=lambda: StockEpisode(runner, bench),
    )


def stock_config(
    settings: Settings, folder: Path, *, num_rows: int, num_microbatches: int = 1
) -> GRPOConfig:
    """Return TRL's arguments, with our sampling, limits and loss; the rest is TRL's choice."""
    context, grpo = settings.context, settings.grpo
    return GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=num_rows // num_microbatches,
        gradient_accumulation_steps=num_microbatches,
        num_generations=grpo.group_size,
        max_completion_length=settings.largest_window,
        max_tool_calling_iterations=context.max_turns,
        generation_kwargs={"max_new_tokens": context.max_new_tokens},
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        beta=0.0,
        loss_type="dapo",
        scale_rewards="none",
        bf16=trains_in_bf16(settings),
        gradient_checkpointing=settings.model.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        max_steps=grpo.max_steps,
        learning_rate=grpo.learning_rate,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def to_inputs(runner: RolloutRunner, requests: Sequence[EpisodeRequest]) -> list[dict[str, Any]]:
    """Return what TRL takes for these episodes: their prompts, and what `reset` is given."""
    settings, rows = runner.settings, []
    for request in requests:
        statement = runner.store.public[request.task_id].statement
        system = system_prompt(
            settings.prompt.tools, settings.context.strategy, example=runner.chat.example
        )
        user = f"{statement}\nwindow {request.window_tokens}"
        prompt = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        rows.append(
            {"prompt": prompt, "task_id": request.task_id, "window_tokens": request.window_tokens}
        )
    return rows
