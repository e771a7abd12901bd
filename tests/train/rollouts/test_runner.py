"""A window needs a rewrite, or does not.

A broken sandbox is retried and never becomes a reward (invariant 7).
"""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from envs.errors import InfrastructureError
from envs.habits.options import ScriptOptions
from envs.records import HiddenTask, Outcome, RepairTask, StopReason, Strategy, TestReport
from envs.sources.synthetic import generate
from envs.tasks.store import Manifest, write_built
from envs.workers.workbench import Workbench
from rewards.advantages import score_group
from rewards.cost import num_automatic_rewrites, num_compactions, num_evictions
from rewards.outcome import failed_part, is_scorable, is_solved
from tests.envs.world import CHAT, TASK, InProcess, OneTask
from tests.train.small_run import add_tokenizer, settings_in
from train.config.settings import Settings
from train.rollouts.demonstrations import Demonstrations, make_demonstrations
from train.rollouts.requests import draw_thresholds_of
from train.rollouts.runner import (
    EpisodeRequest,
    RolloutRunner,
    open_runner,
)

SETTINGS = Settings.model_validate(
    {
        "run": {"name": "x"},
        "model": {"base": "tiny"},
        "prompt": {"tools": "none"},
        "context": {
            "window_tokens": [330, 480],
            "max_turns": 12,
            "max_new_tokens": 48,
            "observation_tokens": 160,
        },
    }
)


@dataclass
class Flaky:
    """A grader whose sandbox fails the first `num_failures` times."""

    num_failures: int = 0
    calls: list[str] = field(default_factory=list)

    def grade(self, hidden: HiddenTask, files: dict[str, str]) -> Outcome:
        self.calls.append(hidden.task_id)
        fixed = all(edit.text in files[edit.path] for edit in hidden.gold_edits)
        if len(self.calls) <= self.num_failures:
            raise InfrastructureError("the sandbox died")
        return Outcome(fail_to_pass_rate=float(fixed), pass_to_pass_rate=1.0, sandbox_level="none")

    def run_visible(self, task: RepairTask, files: dict[str, str], selector: str) -> TestReport:
        return TestReport(num_passed=1, failures=())


def runner_with(grader: Flaky) -> RolloutRunner:
    store = OneTask()
    bench = InProcess(Workbench(store, grader))
    return RolloutRunner(store, CHAT, SETTINGS, bench)  # type: ignore[arg-type]


SHORT = SETTINGS.context.model_copy(update={"max_new_tokens": 16})
REQUEST = EpisodeRequest(task_id=TASK.id, group_id="g", sample_index=0, window_tokens=480, seed=1)


def play(runner: RolloutRunner, name: str, request: EpisodeRequest = REQUEST):  # type: ignore[no-untyped-def]
    return asyncio.run(
        runner.play(request, lambda r: runner.make_script(TASK.id, name), policy=name)
    )


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_every_strategy_is_played_and_recorded_with_what_was_drawn(strategy: str) -> None:
    context = SETTINGS.context.model_copy(update={"strategy": strategy, "keep_last": (1, 1)})
    runner = runner_with(Flaky())
    runner.settings = SETTINGS.model_copy(update={"context": context})
    request = replace(REQUEST, window_tokens=350)
    options = ScriptOptions(rewrite="evict")
    make = lambda _: runner.make_script(TASK.id, "careful", options=options)  # noqa: E731
    episode = asyncio.run(runner.play(request, make, policy="careful"))
    assert episode.strategy == strategy
    assert episode.thresholds == draw_thresholds_of(request, runner.settings)
    assert episode.output_reserve == context.max_new_tokens
    assert is_solved(episode) == (strategy != "full_history")
    own = num_evictions(episode) + num_compactions(episode)
    assert (own > 0) == (strategy == "learned"), "of learned_net the net is quicker"
    assert (num_automatic_rewrites(episode) > 0) == (strategy not in ("full_history", "learned"))
    assert runner.play_ungraded(TASK.id, "careful").thresholds is None, "what is measured is plain"


def test_gold_solves_and_noop_scores_nothing() -> None:
    runner = runner_with(Flaky())
    assert is_solved(play(runner, "gold")) and not is_solved(play(runner, "noop"))


@pytest.mark.parametrize("num_failures", [1, 2])
def test_an_infrastructure_failure_is_retried_in_a_fresh_environment(num_failures: int) -> None:
    grader = Flaky(num_failures)
    episode = play(runner_with(grader), "gold")
    assert is_solved(episode) and len(grader.calls) == num_failures + 1
    assert len(episode.turns) == 2, "the turns of the broken attempts are gone"


def test_a_lasting_failure_is_unscorable_and_leaves_the_baseline() -> None:
    bad = play(runner_with(Flaky(99)), "gold")
    assert bad.stop_reason is StopReason.ENVIRONMENT_ERROR and not is_scorable(bad)
    assert failed_part(bad) == "grading"
    good, none = play(runner_with(Flaky()), "gold"), play(runner_with(Flaky()), "noop")
    with_bad = score_group([good, none, bad])
    assert with_bad[2].advantage == 0.0
    assert [s.advantage for s in with_bad[:2]] == [s.advantage for s in score_group([good, none])]


def demonstrations(num_failures: int) -> Demonstrations:
    sft = SETTINGS.sft.model_copy(update={"num_demonstrations": 6, "needs_rewrite_share": 0.0})
    runner = runner_with(Flaky(num_failures))
    runner.settings = SETTINGS.model_copy(update={"sft": sft})
    return make_demonstrations(runner)


def test_a_demonstration_that_the_machine_broke_is_played_again_and_not_drawn_anew() -> None:
    whole, repeated = demonstrations(0), demonstrations(9)
    assert repeated == whole
    with pytest.raises(InfrastructureError, match="the sandbox died"):
        demonstrations(10**6)


def test_a_small_window_needs_a_rewrite_and_a_large_one_does_not() -> None:
    runner = runner_with(Flaky())
    least = runner.windows.peaks.of(TASK.id).least_peak
    for window, needed in ((least - 1, True), (least, False)):
        request = EpisodeRequest(TASK.id, "g", 0, window, 1)
        assert play(runner, "gold", request).needs_rewrite is needed
    assert play(runner, "gold").reference_cost > 0


def test_a_wave_waits_for_no_finished_episode() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=600,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    ).eval()
    runner = runner_with(Flaky())
    settings = SETTINGS.model_copy(update={"context": SHORT})
    requests = runner.draw_requests([TASK.id] * 3, stage="x", group_size=3)
    found = []
    for batch in (4, 9):
        grpo = SETTINGS.grpo.model_copy(update={"generation_batch": batch})
        runner.settings = settings.model_copy(update={"grpo": grpo})
        found.append(runner.play_model(requests, model, policy="m"))
    assert [e.sample_index for e in found[0]] == [0, 1, 2] * 3
    assert [e.segment_ids for e in found[0]] == [e.segment_ids for e in found[1]]


def test_a_stage_plays_tasks_of_the_asked_difficulty_only(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "--tasks.difficulty={sites: [2, 2]}")
    tasks = list(generate(20, split="train", seed=0))
    manifest = Manifest(source="synthetic", seed=0, licence="Apache-2.0")
    write_built(tmp_path / "tasks", tasks=tasks, manifest=manifest)
    add_tokenizer(settings)
    hard = [task.public.id for task in tasks if task.public.difficulty.sites == 2]
    with open_runner(settings) as runner:
        assert [task.id for task in runner.store.split("train")] == hard
    assert 0 < len(hard) < 20
