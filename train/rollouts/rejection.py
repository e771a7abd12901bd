"""Rejection sampling: of the episodes of a teacher, or of one's own policy, those that solve stay.

    with open_runner(settings) as runner:
        sampled = sample_demonstrations(runner, sampler, folder, name="teacher", num_samples=4)

Every task of the split train is tried, then every one again, until there are as many
demonstrations as `sft.num_demonstrations` says, `sft.needs_rewrite_share` of them in windows that
need a rewrite, as far as tasks have such; what is solved seldom does not become rare among them.
Kept is what solves without editing lines that it had not seen, once where two are alike (as for
scripts, `train/rollouts/demonstrations.py`).

A file in `folder` gets a row with each episode as it ends, so a command that was killed goes on
with the others: `played.jsonl`. What a server had answered in episodes that had not ended is in
`answers.jsonl`, and not asked for again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from envs.errors import InfrastructureError, UserError
from envs.files import append_row, hash_text, take_up_rows
from envs.records import Episode
from rewards.cost import billed_tokens
from rewards.outcome import failed_part, is_scorable
from train.rollouts.concurrency import Sampler, run_bounded
from train.rollouts.demonstrations import find_fault
from train.rollouts.runner import EpisodeRequest, RolloutRunner
from train.rollouts.windows import Windows
from train.servers.chat import Answer, Usage

PLAYED, ANSWERS = "played.jsonl", "answers.jsonl"
_MOST_BROKEN = 8  # episodes in a row that the machine, or the server, broke

Row = dict[str, Any]


@dataclass(frozen=True)
class Sampled:
    """What was kept, and what became of the rest.

    Attributes:
        episodes: Demonstrations, task after task, then again.
        num_rewrite_wanted: How many were wanted in windows that need a rewrite.
        num_played: Episodes that could be scored, those of earlier commands included.
        faults: How many were not kept, by why.
        num_broken: Episodes of this command that the machine or the server broke; a resume plays
            them anew.
    """

    episodes: list[Episode]
    num_rewrite_wanted: int
    num_played: int
    faults: dict[str, int]
    num_broken: int


class AnswerFile:
    """The answers of a server, kept as they come.

    Args:
        folder: Where the file is, or will be.

    Attributes:
        kept: Answers by the name of their request.
        usage: What all of them cost.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ANSWERS
        self.kept: dict[str, Answer] = {}
        self.usage = Usage()
        for row in take_up_rows(self._path):
            calls = tuple((name, arguments) for name, arguments in row["answer"].pop("calls"))
            self.kept[row["request"]] = Answer(calls=calls, **row["answer"])
            self.usage.add(Usage(**row["charge"]))

    def add(self, request: str, answer: Answer, charge: Usage) -> None:
        """Keep one more."""
        row = {"request": request, "answer": asdict(answer), "charge": asdict(charge)}
        append_row(self._path, row)


def sample_demonstrations(
    runner: RolloutRunner,
    sampler: Sampler,
    folder: Path,
    *,
    name: str,
    num_samples: int,
    concurrency: int,
    on_played: Callable[[int, int], None] = lambda played, kept: None,
) -> Sampled:
    """Play until there are enough demonstrations, or each task was tried so often.

    Args:
        runner: Plays.
        sampler: What acts.
        folder: Where `played.jsonl` is, or will be.
        name: Of the policy, in records.
        num_samples: Episodes per task, at most.
        concurrency: Episodes at once.
        on_played: Called with the numbers of played episodes and of demonstrations.

    Raises:
        UserError: There is no task to train on.
        InfrastructureError: One episode after another was broken.
    """
    windows = _mix_windows(runner)
    requests = _list_requests(runner, windows, num_samples)
    num = runner.settings.sft.num_demonstrations
    num_tight = round(windows.mixture(requests[0].task_id).share * num)
    wanted = {True: num_tight, False: num - num_tight}
    play = _Play(runner, sampler, folder / PLAYED, name=name, wanted=wanted, on_played=on_played)
    missing = [place for place in range(len(requests)) if place not in play.rows]
    run_bounded(
        lambda place: play.begin(place, requests[place]),
        missing,
        concurrency=concurrency,
        sampler=sampler,
    )
    rows = [row for _, row in sorted(play.rows.items())]
    faults = Counter(row["fault"] for row in rows if row["fault"] is not None)
    episodes = _choose(rows, wanted)
    return Sampled(episodes, num_tight, len(rows), dict(faults), play.num_broken)


class _Play:
    """Plays what is missing, and keeps a row of each episode.

    `wanted` says how many are to be kept by whether their window needs a rewrite.
    """

    def __init__(
        self,
        runner: RolloutRunner,
        sampler: Sampler,
        path: Path,
        *,
        name: str,
        wanted: Mapping[bool, int],
        on_played: Callable[[int, int], None],
    ) -> None:
        self._runner, self._sampler, self._path, self._name = runner, sampler, path, name
        self._on_played, self._wanted = on_played, wanted
        self.rows: dict[int, Row] = {int(row["place"]): row for row in take_up_rows(path)}
        kept = [row for row in self.rows.values() if row["fault"] is None]
        self._fingerprints = {row["fingerprint"] for row in kept}
        self._kept = Counter(bool(row["needs_rewrite"]) for row in kept)
        self._playing = Counter[bool]()
        self.num_broken = self._in_a_row = 0
        self._ended = asyncio.Condition()
        on_played(len(self.rows), self._kept.total())

    async def begin(self, place: int, request: EpisodeRequest) -> None:
        """Play, if it is wanted; while those under way may be enough, wait for their end."""
        kind = self._runner.windows.needs_rewrite(request.task_id, request.window_tokens)
        async with self._ended:
            if not self._sampler.in_waves:  # where all wait for all
                await self._ended.wait_for(lambda: self._count_needed(kind) != 0)
            if self._count_needed(kind) < 0:
                return
            self._playing[kind] += 1
        try:
            await self._play(place, request)
        finally:
            async with self._ended:
                self._playing[kind] -= 1
                self._ended.notify_all()

    def _count_needed(self, kind: bool) -> int:
        """Return how many more of a kind to begin; -1 if there are enough."""
        missing = self._wanted[kind] - self._kept[kind]
        return max(0, missing - self._playing[kind]) if missing > 0 else -1

    async def _play(self, place: int, request: EpisodeRequest) -> None:
        episode = await self._runner.play(
            request,
            lambda each: self._sampler.policy(seed=each.seed, group=each.group_id),
            policy=self._name,
        )
        self._sampler.forget(request.seed)
        if is_scorable(episode):
            self._in_a_row = 0
            self._add(_make_row(self._runner, place, episode, self._fingerprints))
            return
        self.num_broken, self._in_a_row = self.num_broken + 1, self._in_a_row + 1
        if self._in_a_row >= _MOST_BROKEN:
            text = f"{self._in_a_row} episodes in a row broke: {_why(episode)}"
            raise InfrastructureError(text, part=failed_part(episode))

    def _add(self, row: Row) -> None:
        append_row(self._path, row)
        self.rows[row["place"]] = row
        if row["fault"] is None:
            self._fingerprints.add(row["fingerprint"])
            self._kept[row["needs_rewrite"]] += 1
        self._on_played(len(self.rows), self._kept.total())


def forget_journals(folder: Path) -> None:
    """Delete what was kept for a resume, when all is in the demonstrations."""
    for name in (PLAYED, ANSWERS):
        (folder / name).unlink(missing_ok=True)


def _mix_windows(runner: RolloutRunner) -> Windows:
    """Return what draws the windows: of demonstrations their own share needs a rewrite."""
    settings, windows = runner.settings, runner.windows
    update = {"needs_rewrite_share": settings.sft.needs_rewrite_share}
    context = settings.context.model_copy(update=update)
    mixed = settings.model_copy(update={"context": context})
    return Windows(mixed, windows.peaks, list_split=windows.list_split)


def _list_requests(
    runner: RolloutRunner, windows: Windows, num_samples: int
) -> list[EpisodeRequest]:
    """Return what is to be played: all tasks once, then all again, each in a window of its own."""
    task_ids = [task.id for task in runner.store.split("train")]
    if not task_ids:
        raise UserError(
            "there are no tasks to demonstrate",
            got=f"0 in the train split of {runner.store.folder}",
            remedy="build some (tasks.train); held-out tasks are never demonstrated by a model",
        )
    rounds = (
        runner.draw_requests(task_ids, stage="demos", step=step, window_of=windows.draw)
        for step in range(num_samples)
    )
    return list(chain(*rounds))


def _choose(rows: Iterable[Row], wanted: Mapping[bool, int]) -> list[Episode]:
    """Return the first demonstrations of each kind, as many as are wanted."""
    left, chosen = dict(wanted), []
    for row in rows:
        if row["fault"] is None and left[row["needs_rewrite"]] > 0:
            left[row["needs_rewrite"]] -= 1
            chosen.append(Episode.model_validate_json(row["episode"]))
    return chosen


def _make_row(runner: RolloutRunner, place: int, episode: Episode, kept: set[str]) -> Row:
    """Return the row of an episode, beside demonstrations with these fingerprints."""
    fingerprint = hash_text(f"{episode.task_id} {episode.segment_ids}")
    fault: str | None = find_fault(runner, episode)
    if fault is None and fingerprint in kept:
        fault = "alike"
    return {
        "place": place,
        "task": episode.task_id,
        "needs_rewrite": episode.needs_rewrite,
        "fault": fault,
        "billed_tokens": billed_tokens(episode),
        "fingerprint": fingerprint,
        "episode": episode.model_dump_json() if fault is None else None,
    }


def _why(episode: Episode) -> str:
    return (episode.outcome and episode.outcome.unscorable) or episode.stop_reason.value
