"""What the GRPO trainer asks for in each step: groups played, scored, saved, and cut into rows."""

from collections.abc import Collection, Sequence
from typing import Any

from accelerate.utils import gather_object

from envs.records import Episode, Score
from rewards.advantages import CAP_MEMORY, RunningCap, score_group
from rewards.cost import sampled_tokens
from rewards.cost_weight import CostWeightController
from rewards.metrics import step_metrics
from rewards.outcome import is_scorable, is_solved
from train.config.settings import Settings
from train.config.user_functions import is_function, load_function
from train.models.distributed import whole_weights
from train.rl.grpo_trainer import RolloutBatch, RolloutRequest
from train.rl.segments import episode_rows
from train.rl.solve_counts import SolveCounts
from train.rollouts.engine import engine_for
from train.rollouts.runner import Arena, Request, group_requests, model_policy
from train.stages.progress import Progress
from train.stages.run_dir import StageDir


class StepRollouts:
    """Plays one step's groups with the model in training; keeps cap and cost weight between steps.

    Args:
        settings: The experiment.
        arena: Where episodes are played.
        stage: Where they are saved; with `metrics.jsonl` all that a resume needs.
        progress: The line on the terminal.
    """

    def __init__(
        self, settings: Settings, arena: Arena, stage: StageDir, progress: Progress
    ) -> None:
        reward = settings.reward
        self.controller = CostWeightController(kind=reward.pressure, weight=reward.cost_weight)
        named = reward.advantage
        self._advantage: Any = load_function(named) if is_function(named) else named
        self._settings, self._arena, self._stage = settings, arena, stage
        self._progress, self.cap = progress, RunningCap()
        self._solves = SolveCounts(stage)
        self._trainer: Any = None

    def attach(self, trainer: Any) -> None:
        """Name the trainer whose model acts."""
        self._trainer = trainer

    def __call__(self, request: RolloutRequest) -> RolloutBatch:
        """Play the groups of one rank in one step; see `train.rl.grpo_trainer.RolloutRequest`."""
        size = self._settings.grpo.group_size
        requests = group_requests(
            self._settings,
            request.task_ids,
            stage="grpo",
            step=request.step,
            group_size=size,
            first_group=request.first_group,
        )
        episodes = self.play(requests, step=request.step, what="episodes")
        groups = [episodes[i : i + size] for i in range(0, len(episodes), size)]
        scored = [(group, self._score(group)) for group in groups]
        everyone = gather_object(scored)
        everything = [episode for group, _ in everyone for episode in group]
        self._stage.write_episodes(request.step + 1, everything)
        self._solves.add(everything)
        metrics = step_metrics([g for g, _ in everyone], [s for _, s in everyone])
        metrics["cost_weight"] = self.controller.weight
        self.after_step(everything, metrics)
        pairs = [pair for group, marks in scored for pair in zip(group, marks, strict=True)]
        return RolloutBatch(
            rows=[row for e, s in pairs for row in episode_rows(e, advantage=s.advantage)],
            num_sampled_tokens=sum(sampled_tokens(e) for e, _ in pairs if is_scorable(e)),
            metrics=metrics,
        )

    def play(self, requests: Sequence[Request], *, step: int, what: str) -> list[Episode]:
        """Play requests with the model as it is now."""
        model = self._trainer.accelerator.unwrap_model(self._trainer.model)
        num_played = 0

        def count(*_: object) -> None:
            nonlocal num_played
            num_played += 1
            note = f"step {step + 1}: {num_played}/{len(requests)} {what}"
            self._progress.update(step, note=note)

        with whole_weights(self._trainer):
            engine = engine_for(model, self._arena.chat, self._settings)
            return self._arena.play_all(
                requests,
                model_policy(engine),
                policy="grpo",
                policy_version=step,
                concurrency=self._settings.grpo.generation_batch,
                engine=engine,
                on_episode=count,
            )

    def ease(self) -> None:
        """Halve the weight of the cost."""
        self.controller = self.controller.halved()

    def restore(self, *, dropped_after: Collection[int]) -> None:
        """Rebuild cap, cost weight and counts from the steps before a resume.

        Args:
            dropped_after: Steps after which the guard saw a drop.
        """
        self._solves.restore()
        if 0 in dropped_after:
            self.ease()
        for row in self._stage.read_metrics():
            self._press(row)
            if row["step"] in dropped_after:
                self.ease()
        needed: list[list[Episode]] = []  # the last steps, as far back as the cap looks
        num_solved = 0
        for name in reversed(self._stage.list_episodes("step_")):
            needed.append(self._stage.read_episodes(name))
            num_solved += sum(map(is_solved, needed[-1]))
            if num_solved >= CAP_MEMORY:
                break
        for episodes in reversed(needed):
            self.cap = self.cap.updated(episodes)

    def after_step(self, episodes: Sequence[Episode], metrics: dict[str, Any]) -> None:
        """Let cap and cost weight see the episodes of a step, of all ranks."""
        self.cap = self.cap.updated(episodes)
        self._press(metrics)

    def _press(self, metrics: dict[str, Any]) -> None:
        num_scored = round(metrics["num_episodes"] - metrics["num_unscorable"])
        if num_scored:
            self.controller = self.controller.after_step(
                pass_rate=metrics["pass_rate"], num_episodes=num_scored
            )

    def _score(self, group: list[Episode]) -> list[Score]:
        reward = self._settings.reward
        return score_group(
            group,
            method=self._advantage,
            outcome=reward.outcome,
            cost=reward.cost,
            cost_weight=self.controller.weight,
            sampled_cap=self.cap.tokens,
        )
