"""A GRPO run of the smoke size whose tools fail as machines do, and what its gradients should be.

Scripts play, so that every episode calls tools and some are solved; everything else is the run's
own: trainer, rollouts, records, workers, sandbox. On request the engine decodes a turn of the model
for each of theirs, which is thrown away: so episodes wait for it, join and leave it as the model's
do. Used by a test and by `benchmarks/faults.py`.
"""

import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from envs.episode import Bench
from envs.habits.options import draw_habit, draw_options
from envs.records import Episode, Outcome, Policy, Sample, ToolCall, View
from envs.sources.synthetic import generate
from envs.tasks.store import Manifest, write_built
from envs.tools import TurnDone
from envs.workspace import Changes
from rewards.advantages import score_group
from rewards.outcome import is_scorable
from tests.attacks.world import descendants, settles
from tests.envs.workers.faults import open_faulty
from tests.train.small_run import add_base, add_tokenizer, settings_in
from train.models.model import load_tokenizer, run_tokenizer
from train.recipes.grpo import describe, make_starting_model
from train.rl.grpo_arguments import derive_grpo_config
from train.rl.grpo_trainer import (
    MultiSegmentGRPOTrainer,
    RolloutBatch,
    StepRequest,
    make_step_dataset,
)
from train.rl.metrics_callback import StepRecorder
from train.rl.segments import make_rows
from train.rl.step_rollouts import StepRollouts
from train.rollouts.engine import ModelPolicy, make_engine
from train.rollouts.runner import EpisodeRequest, RolloutRunner, open_runner
from train.stages.open_stage import open_stage
from train.stages.progress import Progress
from train.stages.run_dir import StageDir

FAULTS: Mapping[str, float] = {"fail": 0.10, "hang": 0.03, "kill_server": 0.02}
KL_WEIGHT = 0.05


PLAYING: ContextVar[tuple[int, str]] = ContextVar("PLAYING", default=(0, ""))  # step, episode


@dataclass(frozen=True)
class WatchedCall:
    """The calls of one turn: of which episode of which step, and whether they took too long."""

    step: int
    episode: str
    seconds: float
    is_late: bool


@dataclass
class WatchedBench:
    """A bench that remembers what was called."""

    bench: Bench
    calls: list[WatchedCall] = field(default_factory=list)

    async def use_tools(
        self, task_id: str, changes: Changes, calls: Sequence[ToolCall], *, deadline_s: float
    ) -> TurnDone:
        began, is_late = time.monotonic(), False
        try:
            return await self.bench.use_tools(task_id, changes, calls, deadline_s=deadline_s)
        except TimeoutError:
            is_late = True
            raise
        finally:
            seconds = time.monotonic() - began
            self.calls.append(WatchedCall(*PLAYING.get(), seconds, is_late))

    def explain(self, turn_s: float) -> float:
        """Return how long playing should take if nobody waits for another episode's tools.

        All episodes of a step are played at a time, so it ends with the one that takes longest:
        `turn_s` for each turn, but for late calls the time until their deadline.
        """
        chains: dict[int, dict[str, float]] = {}
        for each in self.calls:
            of_step = chains.setdefault(each.step, {})
            took = each.seconds if each.is_late else turn_s
            of_step[each.episode] = of_step.get(each.episode, 0.0) + took
        return sum(max(of_step.values()) for of_step in chains.values())

    async def grade(self, task_id: str, files: dict[str, str], *, deadline_s: float) -> Outcome:
        return await self.bench.grade(task_id, files, deadline_s=deadline_s)


@dataclass
class DecodingPolicy:
    """A script's turns, each after a turn of the model that nobody reads."""

    script: Policy
    model: ModelPolicy

    async def act(self, view: View) -> Sample:
        await self.model.act(view)
        return await self.script.act(view)


class ScriptedRollouts(StepRollouts):
    """Rollouts of scripts; keeps each step's batch, cap and cost weight to compare with."""

    def __init__(self, *args: Any, decodes: bool) -> None:
        super().__init__(*args)
        self.batches: list[tuple[RolloutBatch, dict[str, Any]]] = []
        self.play_s = 0.0
        self._decodes = decodes

    def __call__(self, request: StepRequest, model: Any) -> RolloutBatch:
        before = {"cost_weight": self.scoring.controller.weight}
        batch = super().__call__(request, model)
        self.batches.append((batch, before))
        return batch

    def play(
        self, requests: Sequence[EpisodeRequest], model: Any, *, step: int, what: str
    ) -> list[Episode]:
        del what
        runner = self._runner
        engine = make_engine(model, runner.chat, self._settings) if self._decodes else None

        def make_policy(request: EpisodeRequest) -> Policy:
            PLAYING.set((step, f"{request.group_id}/{request.sample_index}"))
            script = _make_script(runner, request)
            if not engine:
                return script
            generator = torch.Generator().manual_seed(request.seed)
            return DecodingPolicy(script, ModelPolicy(engine, generator))

        began = time.monotonic()
        episodes = runner.play_all(
            requests,
            make_policy,
            policy="script",
            policy_version=step,
            concurrency=8,
            sampler=engine,
        )
        self.play_s += time.monotonic() - began
        return episodes


@dataclass(frozen=True)
class FaultyRun:
    """What a run left: its folder, its trainer, and whether anything else is."""

    stage: StageDir
    trainer: Any
    rollouts: ScriptedRollouts
    bench: WatchedBench
    seconds: float
    left: str

    def episodes(self, step: int) -> list[Episode]:
        return self.stage.read_episodes(step)

    def differences(self) -> list[float]:
        """Of each step: how far its gradient is from that of its scorable episodes alone.

        Relative to the norm of the latter; where there is none, the norm of the former.
        """
        found = []
        for step, (batch, before) in enumerate(self.rollouts.batches, start=1):
            ours = self.gradient(batch)
            expected = self.gradient(self.of_scorable(step, before))
            scale = expected.norm().item() or 1.0
            found.append((ours - expected).norm().item() / scale)
        return found

    def of_scorable(self, step: int, before: Mapping[str, Any]) -> RolloutBatch:
        """Return the batch that the step would have made, had there been no others."""
        reward, rows = self.rollouts._settings.reward, []
        episodes = self.episodes(step)
        for group_id in dict.fromkeys(episode.group_id for episode in episodes):
            group = [each for each in episodes if each.group_id == group_id and is_scorable(each)]
            scores = score_group(
                group, method=reward.advantage, outcome=reward.outcome, cost=reward.cost, **before
            )
            for episode, score in zip(group, scores, strict=True):
                rows += make_rows(episode, advantage=score.advantage)
        return RolloutBatch([rows])

    def gradient(self, batch: RolloutBatch) -> torch.Tensor:
        """Return the gradient of a step with this batch, at the weights as they are."""
        trainer = self.trainer
        trainer.rollouts = lambda request, model: batch
        trainer.model.zero_grad(set_to_none=True)
        inputs = [{"group": 0}] * trainer.num_generations
        trainer.training_step(trainer.model, inputs)
        weights = [each for each in trainer.model.parameters() if each.requires_grad]
        grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        return torch.cat([grad.flatten().double() for grad in grads])


def faulty_run(
    folder: Path,
    *,
    num_steps: int,
    deadline_s: float,
    shares: Mapping[str, float] = FAULTS,
    kl_weight: float = KL_WEIGHT,
    decodes: bool = False,
) -> FaultyRun:
    """Run GRPO from a random base; see the module. With `decodes` nobody waits for the slowest."""
    settings = settings_in(
        folder,
        f"--grpo.max_steps={num_steps}",
        f"--grpo.kl_weight={kl_weight}",
        f"--run.deterministic={'false' if decodes else 'true'}",
        f"--rollouts.turn_limit_s={deadline_s}",
    )
    tasks = list(generate(settings.tasks.train, split="train", seed=0))
    manifest = Manifest(source="synthetic", seed=0, licence="Apache-2.0")
    write_built(folder / "tasks", tasks=tasks, manifest=manifest)
    add_tokenizer(settings)
    add_base(settings)
    stage = open_stage(settings, "grpo")
    processes, threads = descendants(os.getpid()), set(threading.enumerate())
    torch.manual_seed(0)
    began = time.monotonic()
    with (
        Progress("test", total=num_steps, unit="steps", enabled=False) as progress,
        open_runner(settings, open_bench=partial(open_faulty, shares=shares)) as runner,
    ):
        runner.bench = bench = WatchedBench(runner.bench)
        rollouts = ScriptedRollouts(settings, runner, stage, progress, decodes=decodes)
        trainer = MultiSegmentGRPOTrainer(
            make_starting_model(settings),
            args=derive_grpo_config(settings, stage.checkpoints),
            train_dataset=make_step_dataset(
                num_steps=num_steps, groups_per_step=settings.grpo.groups_per_step
            ),
            processing_class=load_tokenizer(run_tokenizer(settings)),
            rollouts=rollouts,
            tokens_per_microbatch=settings.grpo.tokens_per_microbatch,
            callbacks=[StepRecorder(stage, progress, describe=describe)],
        )
        trainer.train()
    seconds = time.monotonic() - began
    settles(lambda: descendants(os.getpid()) == processes)
    left = [f"process {pid}" for pid in descendants(os.getpid()) if pid not in processes]
    left += [f"thread {each.name}" for each in threading.enumerate() if each not in threads]
    return FaultyRun(stage, trainer, rollouts, bench, seconds, ", ".join(left))


def _make_script(runner: RolloutRunner, request: EpisodeRequest) -> Policy:
    rng = random.Random(request.seed)
    name = rng.choice(("careful", "careful", "wasteful", "noop"))
    options = None
    if name != "noop":
        options = draw_options(draw_habit(name, rng=rng), rng=rng)  # type: ignore[arg-type]
    return runner.make_script(request.task_id, name, options=options)
