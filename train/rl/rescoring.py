"""Scores saved episodes of a GRPO run again, under the reward that settings ask for.

Everything that a score depends on is saved: episodes, the reward of each step in `rewards.jsonl`
(a resume may have another), the rows of `metrics.jsonl` and the flags of `dev.jsonl`, from which
the weight of cost of each step follows. So the same settings give the same scores, byte for byte,
and others show what another reward would have paid for the same episodes (not what a policy trained
under it would have done). Views are rebuilt from the event logs on the way and compared with the
prompts that were sampled under, id for id. No torch here.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from envs.context.event_log import EventLog
from envs.errors import UserError
from envs.files import read_rows
from envs.records import Episode, Sampled, Score
from rewards.metrics import share_without_signal
from train.config.settings import Settings
from train.rl.resampling import group_episodes
from train.rl.scoring import StepScoring, find_flagged_steps
from train.stages.run_dir import StageDir


@dataclass
class Tally:
    """Sums over steps of what the scores of one reward amount to."""

    advantages: list[float] = field(default_factory=list)
    num_clamped: int = 0
    without_signal: list[float] = field(default_factory=list)
    largest_sum: float = 0.0  # of a group's advantages

    def add(self, groups: Sequence[Sequence[Score]]) -> None:
        """Count the groups of a file."""
        self.without_signal.append(share_without_signal(groups))
        for group in groups:
            kept = [score for score in group if score.scorable]
            self.advantages += [score.advantage for score in kept]
            self.num_clamped += sum(bool(score.components.get("clamped")) for score in kept)
            total = abs(sum(score.advantage for score in kept))
            self.largest_sum = max(self.largest_sum, total)

    def describe(self) -> dict[str, float]:
        """Return the numbers of the table."""
        num = max(1, len(self.advantages))
        return {
            "share_groups_without_signal": statistics.fmean(self.without_signal or [0.0]),
            "advantage_abs": sum(map(abs, self.advantages)) / num,
            "share_clamped": self.num_clamped / num,
            "largest_group_sum": self.largest_sum,
        }


def rescore(stage: StageDir, settings: Mapping[int, Settings], out: StageDir) -> dict[str, Any]:
    """Score all episodes of a GRPO stage again and write the scores to another folder.

    Args:
        stage: The stage.
        settings: Its own, with another reward or the same, by the step from which on they hold.
        out: Where scores go, under the names of their episodes.

    Returns:
        What there was, how many files of scores are equal byte for byte, and the numbers of both
        rewards; those of the saved one are None where an older version saved no scores.
        `num_steps_not_noted` counts steps of an older version that noted no reward: they are scored
        by the first of `settings`.

    Raises:
        UserError: There are no episodes, or a view cannot be rebuilt.
    """
    names = [name for name in stage.list_episodes() if name.startswith(("step_", "dropped_"))]
    if not names:
        remedy = "name the folder of a run that has trained: runs/NAME"
        raise UserError("there are no episodes to score", got=str(stage.episodes), remedy=remedy)
    saved, now = Tally(), Tally()
    pairs: list[tuple[Score, Score]] = []
    num_equal = num_saved = num_episodes = num_turns = 0
    for name, scoring in _follow(stage, settings, names):
        episodes = stage.read_episodes(name)
        num_turns += sum(map(check_views, episodes))
        groups = group_episodes(episodes)
        scores = [scoring.score(group) for group in groups]
        out.write_scores(name, chain(*scores))
        now.add(scores)
        num_episodes += len(episodes)
        before = stage.read_scores(name)
        if len(before) == len(episodes):
            num_saved += 1
            num_equal += stage.score_file(name).read_bytes() == out.score_file(name).read_bytes()
            pairs += zip(before, chain(*scores), strict=True)
            rest = iter(before)
            saved.add([[next(rest) for _ in group] for group in groups])
    return {
        "num_episodes": num_episodes,
        "num_views_rebuilt": num_turns,
        "num_files": len(names),
        "num_files_with_scores": num_saved,
        "num_files_equal": num_equal,
        "num_steps_not_noted": _count_not_noted(stage, names),
        "saved": saved.describe() if num_saved else None,
        "now": now.describe(),
        **_compare(pairs),
    }


def check_views(episode: Episode) -> int:
    """Rebuild the view of every turn from the event log; returns the number of turns.

    Raises:
        UserError: One is not what the record says was sampled under.
    """
    log, turns = EventLog(), iter(episode.turns)
    for event in episode.events:
        if isinstance(event, Sampled):
            turn = next(turns)
            prompt = episode.segment_ids[turn.segment][: turn.prompt_end]
            if log.view().prompt_ids != prompt:
                raise UserError(
                    "a view is not what its event log says",
                    got=f"{episode.group_id}/{episode.sample_index}, turn {len(log.events)}",
                    remedy="its file was damaged: run the stage that wrote it again",
                )
        log.append(event)
    return len(episode.turns)


def _follow(
    stage: StageDir, settings: Mapping[int, Settings], names: Sequence[str]
) -> Iterator[tuple[str, StepScoring]]:
    """Yield each file of episodes with the scoring as it was in its step.

    Under another reward a resume goes through the steps that are done anew, and so does this.
    """
    flagged, rows, begun, num_seen = find_flagged_steps(stage), stage.read_metrics(), 0, 0
    for name in sorted(names, key=_step_of):
        step = _step_of(name)
        first = max((each for each in settings if each <= step), default=min(settings))
        if first != begun:
            begun, num_seen, scoring = first, 0, StepScoring(settings[first])
        before = [row for row in rows[num_seen:] if row["step"] < step]
        scoring.replay(before, dropped_after=flagged)
        num_seen += len(before)
        yield name, scoring


def _count_not_noted(stage: StageDir, names: Sequence[str]) -> int:
    noted = [row["step"] for row in read_rows(stage.rewards)]
    return len({step for step in map(_step_of, names) if not noted or step < noted[0]})


def _step_of(name: str) -> int:
    return int(name.rpartition("_")[2])


def _compare(pairs: Sequence[tuple[Score, Score]]) -> dict[str, float | None]:
    """Compare the advantages of both rewards, episode by episode."""
    found = [(a.advantage, b.advantage) for a, b in pairs if a.scorable]
    before, now = [a for a, _ in found], [b for _, b in found]
    varies = len({*before}) > 1 and len({*now}) > 1
    return {
        "correlation": statistics.correlation(before, now) if varies else None,
        "share_other_sign": sum(a * b < 0 for a, b in found) / len(found) if found else None,
    }
