"""Scores of a run's groups, step by step: the form of the reward, and the weight of cost.

The same object scores in training and in `tightrope rescore`: what it remembers between steps
follows from `metrics.jsonl` and `dev.jsonl` alone. No torch here.

Tests: tests/train/rl/test_rescoring.py.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from envs.files import append_row, read_rows
from envs.records import Episode, Score
from rewards.advantages import mask_overlong, score_group
from rewards.cost_weight import CostWeightController
from train.config.settings import Settings
from train.config.user_functions import is_function, load_function
from train.stages.run_dir import StageDir


class StepScoring:
    """Scores groups under the weight of cost of the step that it has come to.

    Args:
        settings: The experiment.
    """

    def __init__(self, settings: Settings) -> None:
        reward = settings.reward
        self.controller = CostWeightController(kind=reward.pressure, weight=reward.cost_weight)
        named = reward.advantage
        self._method: Any = load_function(named) if is_function(named) else named
        self._settings = settings

    def score(self, group: Sequence[Episode]) -> list[Score]:
        """Score the episodes of one task."""
        reward = self._settings.reward
        scores = score_group(
            group,
            method=self._method,
            outcome=reward.outcome,
            cost=reward.cost,
            cost_weight=self.controller.weight,
            process_weight=reward.process_weight,
        )
        return scores if self._settings.grpo.overlong == "keep" else mask_overlong(group, scores)

    def end_step(self, metrics: Mapping[str, Any]) -> None:
        """Let the weight of cost see the metrics of a step."""
        num_scored = round(metrics["num_episodes"] - metrics["num_unscorable"])
        if num_scored:
            self.controller = self.controller.after_step(
                pass_rate=metrics["pass_rate"], num_episodes=num_scored
            )

    def halve_cost_weight(self) -> None:
        """Give up half of the weight of cost, after a drop."""
        self.controller = self.controller.halved()

    def replay(self, rows: Sequence[Mapping[str, Any]], *, dropped_after: Collection[int]) -> None:
        """Go through steps that are done.

        Args:
            rows: Of `metrics.jsonl`.
            dropped_after: Steps after which the guard saw a drop.
        """
        for row in rows:
            self.end_step(row)
            if row["step"] in dropped_after:
                self.halve_cost_weight()


def note_reward(stage: StageDir, settings: Settings) -> None:
    """Note by which reward the next steps are scored, unless it is that of the steps before."""
    reward = describe_reward(settings)
    noted, rows = read_rows(stage.rewards), stage.read_metrics()
    if stage.is_main and (not noted or noted[-1] | reward != noted[-1]):
        append_row(stage.rewards, {"step": rows[-1]["step"] + 1 if rows else 1, **reward})


def describe_reward(settings: Settings) -> dict[str, Any]:
    """Return all settings that a score depends on, and the rest of their section."""
    reward = settings.reward.model_dump(mode="json")
    return {"reward": reward, "overlong": settings.grpo.overlong}


def find_flagged_steps(stage: StageDir) -> list[int]:
    """Return the steps after which the guard saw a drop (`train/rl/dev_evaluation.py`)."""
    return [row["step"] for row in read_rows(stage.dev_rows) if row["flagged"]]
