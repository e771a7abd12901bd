"""What the GRPO trainer calls in each step: groups played, scored, saved, and cut into rows."""

from collections.abc import Collection, Sequence
from typing import Any

from accelerate.utils import gather_object

from envs.records import Episode, Score
from rewards.advantages import RunningCap, score_group
from rewards.cost_weight import CostWeightController
from rewards.metrics import step_metrics
from rewards.solves import Solves, count_solves
from train.config.settings import Settings
from train.config.user_functions import is_function, load_function
from train.rl.grpo_trainer import RolloutBatch, StepRequest
from train.rl.segments import make_minibatches
from train.rl.solve_counts import write_solves
from train.rollouts.runner import EpisodeRequest, RolloutRunner, draw_requests
from train.stages.progress import Progress
from train.stages.run_dir import StageDir


class StepRollouts:
    """Plays one step's groups with the model in training; keeps cap and cost weight between steps.

    What an interrupted run left in `stage` is taken in as if it had just been played.

    Args:
        settings: The experiment.
        runner: Plays the episodes.
        stage: Where they are saved; with `metrics.jsonl` all that a resume needs.
        progress: The line on the terminal.
        dropped_after: Steps after which the guard saw a drop (`train/rl/dev_evaluation.py`).
    """

    def __init__(
        self,
        settings: Settings,
        runner: RolloutRunner,
        stage: StageDir,
        progress: Progress,
        *,
        dropped_after: Collection[int] = (),
    ) -> None:
        reward = settings.reward
        self.controller = CostWeightController(kind=reward.pressure, weight=reward.cost_weight)
        self.cap = RunningCap()
        self._solves: dict[str, Solves] = {}
        named = reward.advantage
        self._advantage: Any = load_function(named) if is_function(named) else named
        self._settings, self._runner, self._stage = settings, runner, stage
        self._progress = progress
        for row in stage.read_metrics():
            self._control(row)
            if row["step"] in dropped_after:
                self.halve_cost_weight()
        for name in stage.list_episodes("step_"):
            self._count(stage.read_episodes(name))

    def __call__(self, request: StepRequest, model: Any) -> RolloutBatch:
        """Play the groups of one rank in one step with the model in training."""
        size = self._settings.grpo.group_size
        requests = draw_requests(
            self._settings,
            request.task_ids,
            stage="grpo",
            step=request.step,
            group_size=size,
            first_group=request.first_group,
        )
        episodes = self.play(requests, model, step=request.step, what="episodes")
        groups = [episodes[i : i + size] for i in range(0, len(episodes), size)]
        scored = [(group, self.score(group)) for group in groups]
        everyone = gather_object(scored)
        everything = [episode for group, _ in everyone for episode in group]
        self._stage.write_episodes(request.step + 1, everything)
        metrics = step_metrics([g for g, _ in everyone], [s for _, s in everyone])
        metrics["cost_weight"] = self.controller.weight
        self.end_step(everything, metrics)
        minibatches = make_minibatches(
            scored,
            first_group=request.first_group,
            num_updates=self._settings.grpo.updates_per_rollout,
        )
        return RolloutBatch(minibatches, metrics)

    def play(
        self, requests: Sequence[EpisodeRequest], model: Any, *, step: int, what: str
    ) -> list[Episode]:
        """Play requests with the model as it is after `step` steps."""
        num_played = 0

        def count() -> None:
            nonlocal num_played
            num_played += 1
            note = f"step {step + 1}: {num_played}/{len(requests)} {what}"
            self._progress.update(step, note=note)

        return self._runner.play_model(
            requests, model, policy="grpo", policy_version=step, on_episode=count
        )

    def score(self, group: Sequence[Episode]) -> list[Score]:
        """Score the episodes of one task, under the cap and the cost weight of this step."""
        reward = self._settings.reward
        return score_group(
            group,
            method=self._advantage,
            outcome=reward.outcome,
            cost=reward.cost,
            cost_weight=self.controller.weight,
            sampled_cap=self.cap.tokens,
        )

    def end_step(self, episodes: Sequence[Episode], metrics: dict[str, Any]) -> None:
        """Let cap, cost weight and counts see the episodes of a step, of all ranks."""
        self._count(episodes)
        self._control(metrics)

    def halve_cost_weight(self) -> None:
        """Give up half of the weight of cost, after a drop."""
        self.controller = self.controller.halved()

    def _count(self, episodes: Sequence[Episode]) -> None:
        self.cap = self.cap.updated(episodes)
        self._solves = count_solves(episodes, before=self._solves)
        write_solves(self._stage, self._solves)

    def _control(self, metrics: dict[str, Any]) -> None:
        num_scored = round(metrics["num_episodes"] - metrics["num_unscorable"])
        if num_scored:
            self.controller = self.controller.after_step(
                pass_rate=metrics["pass_rate"], num_episodes=num_scored
            )
