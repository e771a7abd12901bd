"""The least peaks of a task set, each measured once and kept in the cache that runs share.

    CACHE/least_peaks/KEY.jsonl      a row per task; KEY is a hash of all that they depend on

They depend on the task, the tokenizer with its chat template and tool schemas, the system prompts
and the limits of an episode. An interrupted run leaves whole rows behind, which the next one reads.

Tests: tests/train/rollouts/test_least_peaks.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from envs.environment import Environment, Limits
from envs.files import append_row, hash_text, read_lines
from envs.readers.least_peak import FAMILY, measure_least_peak
from envs.records import RepairTask, Strategy
from envs.rendering import ChatFormat
from envs.tasks.store import TaskStore


@dataclass(frozen=True)
class TaskWindows:
    """What windows mean for one task; all in tokens, output reserve included.

    Attributes:
        least_peak: The least in which a scripted reader solves without a rewrite, under the prompt
            of `learned`; 0 if none ever does. A smaller window needs a rewrite.
        unaided: The same under the prompt of `full_history`, the shortest: in a smaller window no
            strategy gets by without a rewrite.
        floor: The least in which a script that rewrites solves; 0 if none does.
        reader: Which reader was best.
    """

    least_peak: int
    unaided: int
    floor: int
    reader: str


@dataclass
class LeastPeaks:
    """Measures tasks when they are asked for.

    Attributes:
        store: The task set.
        chats: Encodes and counts, by strategy: `learned` and `full_history`.
        systems: The system prompts of the same.
        limits: Those of episodes.
        folder: Where rows are kept; None: nowhere.
    """

    store: TaskStore
    chats: Mapping[Strategy, ChatFormat]
    systems: Mapping[Strategy, str]
    limits: Limits
    folder: Path | None = None
    _found: dict[str, TaskWindows] = field(default_factory=dict)
    _kept: dict[str, TaskWindows] | None = None

    @property
    def key(self) -> str:
        """Hash of all that least peaks depend on besides the task."""
        limits = asdict(replace(self.limits, window_tokens=0))
        prompts = [self.chats[name].digest + self.systems[name] for name in sorted(self.chats)]
        return hash_text(json.dumps([FAMILY, prompts, limits]))[:16]

    def of(self, task_id: str) -> TaskWindows:
        """Return those of a task; measures it if nobody has."""
        if task_id not in self._found:
            kept, name = self._read(), self._name(task_id)
            if name not in kept:
                kept[name] = self._measure(task_id)
                if self.folder is not None:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    append_row(self._path, {"task": name, **asdict(kept[name])})
            self._found[task_id] = kept[name]
        return self._found[task_id]

    def knows(self, task_id: str) -> bool:
        """Tell whether a task was measured before."""
        return task_id in self._found or self._name(task_id) in self._read()

    def take(self, task_ids: Sequence[str], found: Sequence[TaskWindows]) -> None:
        """Take what other processes have measured."""
        self._found.update(zip(task_ids, found, strict=True))

    @property
    def _path(self) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.key}.jsonl"

    def _name(self, task_id: str) -> str:
        """Return a name for all of a task that counts; the public half names its workspace."""
        hidden = self.store.hidden[task_id]
        facts = hidden.model_dump_json(include={"gold_edits", "gold_spans"})
        return hash_text(self.store.public[task_id].model_dump_json() + facts)[:16]

    def _read(self) -> dict[str, TaskWindows]:
        if self._kept is None:
            self._kept = {}
            if self.folder is not None and self._path.is_file():
                if not self._path.read_bytes().endswith(b"\n"):
                    with self._path.open("ab") as file:
                        file.write(b"\n")  # behind a row that a kill cut short
                rows = map(_row_of, read_lines(self._path))
                self._kept = {row.pop("task"): TaskWindows(**row) for row in rows if row}
        return self._kept

    def _measure(self, task_id: str) -> TaskWindows:
        task = self.store.public[task_id]
        files = self.store.workspace(task)
        found = measure_least_peak(
            task,
            self.store.hidden[task_id],
            files,
            chat=self.chats["learned"],
            system=self.systems["learned"],
            limits=self.limits,
        )
        unaided = 0
        if found.window is not None and found.room is not None:
            unaided = found.room + self._count_plain(task, files, found.window)
            while found.room + self._count_plain(task, files, unaided - 1) < unaided:
                unaided -= 1  # the prompt says the window, whose digits are tokens
        return TaskWindows(found.window or 0, unaided, found.floor or 0, found.reader)

    def _count_plain(self, task: RepairTask, files: Mapping[str, str], window_tokens: int) -> int:
        """Return the tokens of the prompt of `full_history`."""
        opened = Environment(
            task,
            files,
            chat=self.chats["full_history"],
            system=self.systems["full_history"],
            limits=replace(self.limits, window_tokens=window_tokens),
            strategy="full_history",
        )
        return len(opened.view().prompt_ids)


def _row_of(line: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:  # cut short
        return {}
