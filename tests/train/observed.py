"""What settings change, seen through the code that reads them, at the smallest size.

Each function takes a `Case` and returns something that two cases can be compared by.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from envs.records import Noted, Outcome, StopReason, ToolCall
from envs.tasks.store import Manifest, TaskStore, write_built
from envs.tools import TurnDone
from envs.workspace import Changes
from rewards.metrics import step_metrics
from rewards.mistakes import find_mistakes
from tests.envs.small_tasks import FIXED, pytest_task
from tests.envs.world import CHAT, TASK, OneTask
from tests.rewards.episodes import BAD_CALL, make_episode, sampled_event
from tests.train.small_run import CONFIG, add_base, add_demonstrations, arguments
from tightrope_cli import demos
from tightrope_cli.tasks import build as tasks
from train import grpo as grpo_command
from train.config.load import load_settings
from train.config.settings import Settings
from train.models.distributed import joined
from train.models.model import (
    add_adapter,
    load_base,
    load_tokenizer,
    random_tiny,
    run_tokenizer,
    set_up_torch,
)
from train.recipes import grpo, sft
from train.recipes.gate import measure_gate
from train.rl.grpo_arguments import derive_grpo_config
from train.rl.grpo_trainer import StepRequest
from train.rl.resampling import PlayedGroups
from train.rl.step_rollouts import StepRollouts
from train.rl.task_draws import draw_step
from train.rollouts.backend import choose_backend, name_adapters, plan_servers
from train.rollouts.concurrency import count_tool_workers
from train.rollouts.demonstrations import make_demonstrations
from train.rollouts.engine import make_engine
from train.rollouts.evaluate import evaluate, plan_evaluation
from train.rollouts.requests import draw_thresholds_of
from train.rollouts.runner import (
    EpisodeRequest,
    RolloutRunner,
    open_runner,
)
from train.stages.exit_codes import run_main
from train.stages.open_stage import open_stage
from train.stages.progress import Progress
from train.stages.run_dir import StageDir, cache_dir, stage_dir, tasks_dir

NOW = datetime(2026, 1, 1)
LENGTHS = [200, 300, 400] * 20
GROUP = [
    make_episode(turns=((100, 20),), num_cached=90),
    make_episode(turns=((100, 60),), num_cached=10, calls=(BAD_CALL,)),
    make_episode(solved=False, f2p=0.5),
    make_episode(turns=((300, 20),)),
    make_episode(solved=False, stop_reason=StopReason.TURN_LIMIT),
]


@dataclass(frozen=True)
class Case:
    """An experiment in the folder of a finished warm start, and a folder of its own."""

    folder: Path
    own: Path
    overrides: tuple[str, ...]

    @property
    def line(self) -> list[str]:
        return [f"--config={CONFIG}", *arguments(self.folder), *self.overrides]

    @property
    def settings(self) -> Settings:
        return load_settings(CONFIG, self.line[1:])


def places(case: Case) -> Any:
    stage = open_stage(case.settings, "report", resume=True)
    return [tasks_dir(case.settings), cache_dir(case.settings), stage.path.resolve(strict=True)]


def torch_state(case: Case) -> Any:
    before = torch.get_num_threads()
    set_up_torch(case.settings)
    found = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(before)
    return found


def base(case: Case) -> Any:
    model = load_base(case.settings)
    return model.dtype, model.config._attn_implementation, model.config.hidden_size


def checked_base(case: Case) -> Any:
    load_base(case.settings)


def random_base(case: Case) -> Any:
    config = random_tiny(case.settings, load_tokenizer(run_tokenizer(case.settings))).config
    return config.hidden_size, config.num_hidden_layers, config._attn_implementation


def template(case: Case) -> Any:
    stage = StageDir(case.own, "demos")
    demos.make_tokenizer(case.settings, stage, now=NOW)
    return load_tokenizer(stage.path / "tokenizer").chat_template


def adapter(case: Case) -> Any:
    model = add_adapter(load_base(case.settings), case.settings)
    layers = model.base_model.targeted_module_names
    return layers, model.get_submodule(f"base_model.model.{layers[0]}").scaling, count(model)


def count(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def start(case: Case) -> Any:
    model = grpo.make_starting_model(case.settings)
    return float(sum(p.abs().sum() for n, p in model.named_parameters() if "lora_B" in n))


def grpo_args(case: Case) -> Any:
    return derive_grpo_config(case.settings, Path("x")).to_dict()


def sft_args(case: Case) -> Any:
    return sft.derive_sft_config(case.settings, Path("x"), LENGTHS).to_dict()


def thresholds(case: Case) -> Any:
    with open_runner(case.settings) as runner:
        task_ids = [task.id for task in runner.store.split("train")]
        requests = runner.draw_requests(task_ids, stage="grpo", group_size=2)
        drawn = [draw_thresholds_of(request, case.settings) for request in requests]
    assert drawn[::2] == drawn[1::2], "equal in a group"
    return drawn


def prompt(case: Case) -> Any:
    with open_runner(case.settings) as runner:
        task = runner.store.split("train")[0]
        environment = runner.make_environment(task, window_tokens=2000)
        return environment.view().prompt_ids, environment.limits


def chosen(case: Case) -> Any:
    with open_runner(case.settings) as runner:
        return list(runner.store.public)


def drawn(case: Case) -> Any:
    with open_runner(case.settings) as runner:
        names = [task.id for task in runner.store.split("train")][:2]
        return runner.draw_requests(names, stage="grpo", group_size=2)


def mixed(case: Case) -> Any:
    with open_runner(case.settings) as runner:
        return [runner.windows.draw("long_train", random.Random(seed)) for seed in range(9)]


def next_tasks(case: Case) -> Any:
    return draw_step(case.settings, list("abcdefghij"), step=0, solves={})


def built(case: Case) -> Any:
    folder = case.own / "set"
    assert run_main(tasks.main, [*case.line, f"--tasks.dir={folder}"]) == 0
    store = TaskStore.open(folder)
    return list(store.public), [store.workspace(task) for task in store.public.values()]


def regraded(case: Case) -> Any:
    """Grade one repair of a real suite."""
    task = pytest_task()
    manifest = Manifest(source="projects", seed=0, licence="MIT")
    write_built(case.own / "suite", tasks=[task], manifest=manifest)
    inside = Case(case.folder, case.own, (*case.overrides, f"--tasks.dir={case.own / 'suite'}"))
    with open_runner(inside.settings) as runner:
        graded = runner.bench.grade(task.public.id, {"calc.py": FIXED}, deadline_s=60)
        return asyncio.run(graded).second_runner


def scores(case: Case) -> Any:
    return rollouts(case).scoring.score(GROUP)


def pressure(case: Case) -> Any:
    found = rollouts(case).scoring
    metrics = step_metrics([GROUP], [found.score(GROUP)])
    for step in range(60):
        found.end_step(metrics | {"pass_rate": 0.3 if step < 10 else 0.9, "num_episodes": 400})
    return found.controller.weight


def weighed(case: Case) -> Any:
    """Return the weights of tokens in the rows of a group that noted something."""
    events = [sampled_event((0,) * 20), Noted(path="a.py", start=1, end=1, facts="x")]
    events = [*events, sampled_event((0,) * 20)]
    group = [
        make_episode(turns=((100, 20), (120, 20)), events=events, solved=n < 1) for n in (0, 1)
    ]
    batch = rollouts(case)._take(StepRequest(0, 0, 1), PlayedGroups([group]))
    return [row.weights_T for rows in batch.minibatches for row in rows]


def rollouts(case: Case) -> StepRollouts:
    with Progress("test", total=1, unit="steps", enabled=False) as progress:
        stage = StageDir(case.own, "grpo")
        return StepRollouts(case.settings, None, stage, progress)  # type: ignore[arg-type]


def demonstrations(case: Case) -> Any:
    with open_runner(case.settings) as runner:
        made = make_demonstrations(runner)
    return [(each.policy, each.needs_rewrite, find_mistakes(each)) for each in made.episodes]


def gate(case: Case) -> Any:
    return measure_gate(case.settings, load_base(case.settings).eval())["dev_needs_rewrite"]


def specs(case: Case) -> Any:
    return plan_evaluation(case.settings, now=NOW)


def evaluated(case: Case) -> Any:
    """Play a policy; returns the tasks and the largest batch that its model saw."""
    sizes = [0]
    stage = StageDir(case.own / "evaluate", "evaluate")
    with batches(sizes):
        evaluate(case.settings, stage, specs(case), now=NOW)
    return max(sizes), [stage.read_episodes(name) for name in stage.list_episodes()]


@contextlib.contextmanager
def batches(sizes: list[int]) -> Any:
    """Note how many rows each embedding layer was given."""

    def note(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Embedding):
            sizes.append(inputs[0].shape[0])

    handle = register_module_forward_pre_hook(note)
    try:
        yield
    finally:
        handle.remove()


def served(case: Case) -> Any:
    """Return the bounds of the engine, and how many workers there are."""
    model = torch.nn.Identity()
    model.dtype = torch.float32  # as a base without an adapter
    engine = make_engine(model, CHAT, case.settings)
    bounds = engine.prefill_tokens, engine.kept.max_bytes
    return *bounds, count_tool_workers(case.settings)


def sampled_by(case: Case) -> Any:
    return choose_backend(case.settings)


def planned(case: Case) -> Any:
    """Return what servers would be started, and where their adapters would go."""
    stage = StageDir(case.folder, "grpo")
    with joined(world_size=1):
        started, _ = plan_servers(case.settings, stage)
        return started.plan, started.urls, name_adapters(case.settings, stage).folder


class NotingBench:
    """Notes how long turns and gradings may take; each call takes five seconds."""

    def __init__(self) -> None:
        self.limits_s: list[float] = []

    async def use_tools(
        self, task_id: str, changes: Changes, calls: Sequence[ToolCall], *, deadline_s: float
    ) -> TurnDone:
        """See `Bench`."""
        self.limits_s.append(deadline_s)
        return TurnDone((), changes, seconds=5.0 * len(calls))

    async def grade(self, task_id: str, files: dict[str, str], *, deadline_s: float) -> Outcome:
        """See `Bench`."""
        raise AssertionError("nothing is submitted: no call is carried out")


def limited(case: Case) -> Any:
    """Play a script whose calls all take a while."""
    bench = NotingBench()
    runner = RolloutRunner(OneTask(), CHAT, case.settings, bench)  # type: ignore[arg-type]
    request = EpisodeRequest(TASK.id, "g", 0, 560, 1)
    episode = asyncio.run(
        runner.play(request, lambda _: runner.make_script(TASK.id, "gold"), policy="gold")
    )
    return bench.limits_s, episode.stop_reason


def trained(case: Case) -> Any:
    """Run the GRPO stage; returns what it left behind."""
    inside = Case(case.folder, case.own, (*case.overrides, f"--run.dir={case.own / 'runs'}"))
    settings = inside.settings
    add_demonstrations(settings)
    add_base(settings)
    assert run_main(grpo_command.main, inside.line) == 0
    stage = stage_dir(settings, "grpo")
    rows = stage.read_metrics()
    return {
        "steps": len(rows),
        "microbatches": [row["num_microbatches"] for row in rows],
        "weighed": ["sampling/share_bounded" in row for row in rows],
        "played": [row.get("resample/num_groups_played") for row in rows],
        "dev": sorted(path.name for path in stage.episodes.glob("dev_*")),
        "checkpoints": sorted(path.name for path in stage.checkpoints.iterdir()),
    }
