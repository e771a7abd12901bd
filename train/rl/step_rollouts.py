"""What the GRPO trainer calls in each step: groups played, scored, saved, and cut into rows.

With `rollouts.max_staleness: 1` a step trains on what was played one step before, and the policy
that is about to be trained plays for the step after: as if both were done at a time. What was
played ahead is saved before the update, as `ahead_STEP`, for a resume from the checkpoint after
STEP steps, whose adapter has moved since. It is played anew if the resumed run wants groups of
another size or number.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import chain
from statistics import fmean
from typing import Any

from accelerate import PartialState

from envs.records import Episode
from rewards.metrics import share_without_signal, step_metrics
from rewards.solves import Solves, count_solves
from train.config.settings import Settings
from train.rl.checkpoints import find_last_checkpoint, read_step
from train.rl.grpo_trainer import RolloutBatch, StepRequest
from train.rl.resampling import (
    Group,
    PlayedGroups,
    cut_groups,
    describe_replaced,
    has_signal,
    replace_silent,
    split_played,
)
from train.rl.scoring import StepScoring, note_reward
from train.rl.segments import make_minibatches
from train.rl.shared_groups import SharedGroups
from train.rl.solve_counts import write_solves
from train.rl.task_draws import draw_further, draw_step
from train.rollouts.runner import EpisodeRequest, RolloutRunner
from train.stages.progress import Progress
from train.stages.run_dir import StageDir
from train.stages.stage_log import say

# Files of episodes, by the number of steps that are done with them, or before them.
_STEP, _DROPPED, _AHEAD = "step_", "dropped_", "ahead_"


class StepRollouts:
    """Plays one step's groups with the model in training; keeps the cost weight between steps.

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
        note_reward(stage, settings)
        self.scoring = StepScoring(settings)
        self.scoring.replay(stage.read_metrics(), dropped_after=dropped_after)
        self._solves: dict[str, Solves] = {}
        self._ahead: PlayedGroups | None = None
        self._settings, self._runner, self._stage = settings, runner, stage
        self._progress = progress
        self._shared = SharedGroups()
        for name in stage.list_episodes(_STEP):
            beside = f"{_DROPPED}{name.removeprefix(_STEP)}"
            dropped = stage.stream_episodes(beside) if beside in stage.list_episodes() else ()
            self._count(chain(stage.stream_episodes(name), dropped))

    def __call__(self, request: StepRequest, model: Any) -> RolloutBatch:
        """Play the groups of a step with the model in training; return the rows of one rank."""
        played = self._take_ahead(request)
        played = played or self._play_groups(request.step, model, version=request.step)
        batch = self._take(request, played)
        following, settings = request.step + 1, self._settings
        if settings.rollouts.max_staleness and following < settings.grpo.max_steps:
            self._ahead = self._play_groups(following, model, version=request.step)
            groups = [*self._ahead.kept, *self._ahead.dropped]
            self._shared.write(self._stage, f"{_AHEAD}{following:05d}", groups)
            if checkpoint := find_last_checkpoint(self._stage):
                self.forget_ahead(before=read_step(checkpoint))
        return batch

    def _take_ahead(self, request: StepRequest) -> PlayedGroups | None:
        """Return what was played ahead for a step, by an interrupted run too; None if nothing."""
        found, self._ahead = self._ahead, None
        step, grpo = request.step, self._settings.grpo
        name = f"{_AHEAD}{step:05d}"
        if found or not self._settings.rollouts.max_staleness:
            return found
        if name not in self._stage.list_episodes(_AHEAD):
            return None
        saved = self._stage.stream_episodes(name)
        episodes = self._shared.take_in(saved, size=request.num_groups)
        found = split_played(episodes, num_groups=grpo.groups_per_step, size=grpo.group_size)
        if found is None and self._stage.is_main:
            say(f"step {step + 1}: what was played ahead has other groups, so it is played anew")
        return found

    def forget_ahead(self, *, before: int) -> None:
        """Delete what was played ahead for steps that no resume comes back to."""
        for name in self._stage.list_episodes(_AHEAD) if self._stage.is_main else ():
            if int(name.removeprefix(_AHEAD)) < before:
                self._stage.episode_file(name).unlink()

    def _take(self, request: StepRequest, played: PlayedGroups) -> RolloutBatch:
        """Score, save and count what was played for a step; return the rows of one rank."""
        grpo, shared = self._settings.grpo, self._shared
        groups = [*played.kept, *played.dropped]
        scores = shared.score(groups, self.scoring.score)
        cut = len(played.kept)
        for prefix, part in ((_STEP, slice(cut)), (_DROPPED, slice(cut, None))):
            if groups[part] or prefix == _STEP:
                name = f"{prefix}{request.step + 1:05d}"
                shared.write(self._stage, name, groups[part])
                self._stage.write_scores(name, chain(*scores[part]))
        metrics = step_metrics(groups, scores)
        metrics["share_groups_without_signal"] = share_without_signal(scores[:cut])
        metrics["cost_weight"] = self.scoring.controller.weight
        metrics |= describe_replaced(played) if grpo.resample else {}
        if self._settings.rollouts.max_staleness:
            versions = [episode.policy_version for episode in chain(*played.kept)]
            metrics["staleness"] = request.step - fmean(versions)
        self.end_step(list(chain(*groups)), metrics)
        first, size = request.first_group, request.num_groups
        whole = shared.bring(played.kept, first=first, size=size)
        shared.forget(groups)
        minibatches = make_minibatches(
            list(zip(whole, scores[first : first + size], strict=True)),
            first_group=first,
            num_updates=grpo.updates_per_rollout,
            step=request.step,
            context_action_weight=self._settings.reward.context_action_weight,
        )
        return RolloutBatch(minibatches, metrics)

    def _play_groups(self, step: int, model: Any, *, version: int) -> PlayedGroups:
        """Play the groups of a step on all ranks, those that replace others included."""
        train = [task.id for task in self._runner.store.split("train")]
        settings, solves = self._settings, self._solves
        task_ids = draw_step(settings, train, step=step, solves=solves)
        played = set(task_ids)

        def draw(num: int) -> list[str]:
            found = draw_further(settings, train, step=step, num=num, played=played, solves=solves)
            played.update(found)
            return found

        play = partial(self._play_share, step, model, version)
        return replace_silent(task_ids, play=play, draw=draw, most=settings.grpo.resample)

    def _play_share(
        self, step: int, model: Any, version: int, task_ids: Sequence[str], first_group: int
    ) -> list[tuple[Group, bool]]:
        """Play this rank's share of some groups; return all ranks', and which have a signal.

        Those of other ranks come without their ids.
        """
        rank, size = PartialState(), self._settings.grpo.group_size
        begin, end = (
            len(task_ids) * (rank.process_index + n) // rank.num_processes for n in (0, 1)
        )
        requests = self._runner.draw_requests(
            task_ids[begin:end],
            stage="grpo",
            step=step,
            group_size=size,
            first_group=first_group + begin,
        )
        what = "further episodes" if first_group else "episodes"
        mine = self.play(requests, model, step=version, what=what) if requests else []
        groups = cut_groups(mine, size=size)
        is_asked = self._settings.grpo.resample > 0
        told = [(group, not is_asked or has_signal(self.scoring.score(group))) for group in groups]
        return self._shared.tell(told)

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

    def end_step(self, episodes: Sequence[Episode], metrics: dict[str, Any]) -> None:
        """Let counts and cost weight see the episodes of a step, of all ranks."""
        self._count(episodes)
        self.scoring.end_step(metrics)

    def _count(self, episodes: Iterable[Episode]) -> None:
        self._solves = count_solves(episodes, before=self._solves)
        write_solves(self._stage, self._solves)
