"""Task sets on disk: public tasks, private answers apart, content-addressed trees, checksums.

    README.md               dataset card: `datasets.load_dataset(FOLDER)` reads the public tasks
    train.jsonl             one RepairTask a line; dev.jsonl and test.jsonl alike
    private/hidden.jsonl    one HiddenTask a line
    workspaces/SHA.json     {path: sha256 of its text} of a broken workspace; SHA is `hash_tree`
    files/SHA               the text of files in workspaces, each once, named by its sha256
    private/tests/SHA.json  the pristine tree for submitted files (pytest grader), like a workspace
    private/files/SHA       the text of files that are in no workspace
    private/calls/SHA.json  recorded calls of a project, those that its tasks are graded by
    manifest.json           format, source, seed, counts, licence, rejects, sha256 of the above

A set is written beside its place and renamed when whole, so a folder with a manifest is complete.
Nothing that depends on the clock is written, so the same seed gives the same bytes; the one
exception is the manifest's `journal`, which lists what was rejected for its time.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Self

from pydantic import Field, ValidationError

from envs.errors import UserError
from envs.files import hash_text, join_records, read_regular
from envs.grading.recorded_calls import RecordedCalls
from envs.records import SPLITS, HiddenTask, JsonValue, Record, RepairTask, Split
from envs.tasks.dataset_card import name_split_file, write_card
from envs.tasks.set_folder import REBUILD_REMEDY, SetFolder, refuse

FORMAT_VERSION = 2
BUILD_REMEDY = "name the folder of a set; `tightrope tasks build` makes one"
_MAX_MANIFEST_BYTES = 64 * 2**20

Files = dict[str, str]


class Manifest(Record):
    """What a task set is and what it is made of; `files` is filled in when the set is written."""

    format_version: int = FORMAT_VERSION
    source: str
    seed: int
    licence: str
    counts: dict[str, int] = Field(default_factory=dict)
    rejects: dict[str, int] = Field(default_factory=dict)
    yields: dict[str, dict[str, int]] = Field(default_factory=dict)
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    journal: tuple[str, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a set.

        Raises:
            UserError: There is no task set, or it has another format.
        """
        path = folder / "manifest.json"
        if not os.path.lexists(path):
            raise UserError("no task set", got=str(folder), remedy=BUILD_REMEDY)
        try:
            data = read_regular(path, max_bytes=_MAX_MANIFEST_BYTES)
            manifest = cls.model_validate_json(data)
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
            raise UserError(
                "the task set's manifest is damaged", got=f"{path}: {why}", remedy=REBUILD_REMEDY
            ) from error
        if manifest.format_version != FORMAT_VERSION:
            raise UserError(
                f"the task set is not of format {FORMAT_VERSION}",
                got=f"{path}: format {manifest.format_version}",
                remedy=REBUILD_REMEDY,
            )
        return manifest


@dataclass(frozen=True)
class BuiltTask:
    """One task as a source makes it: both halves and the trees that they name."""

    public: RepairTask
    hidden: HiddenTask
    workspace: Files
    tests: Files = field(default_factory=dict)
    calls: RecordedCalls | None = None


def hash_tree(files: Mapping[str, str]) -> str:
    """Return the name of a tree {path: text}: sha256 of its canonical JSON."""
    return hash_text(_canonical(files))


class TaskStore:
    """A task set to read from: a folder (`open`), or tasks still in memory (`of`).

    Attributes:
        public: Public halves by task id, by split and in the order in which they were built.
        hidden: Private halves by task id.
        manifest: What the set is; None for one in memory.
    """

    def __init__(
        self,
        pairs: Iterable[tuple[RepairTask, HiddenTask]],
        *,
        trees: Mapping[str, Files],
        calls: Mapping[str, RecordedCalls] = MappingProxyType({}),
        files: SetFolder | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        pairs = list(pairs)
        self.public = {public.id: public for public, _ in pairs}
        self.hidden = {hidden.task_id: hidden for _, hidden in pairs}
        self.folder, self._files = files.path if files else None, files
        self.manifest = manifest
        self._trees, self._calls = dict(trees), dict(calls)
        self._texts: dict[str, str] = {}

    @classmethod
    def of(cls, tasks: Iterable[BuiltTask]) -> "TaskStore":
        """Hold tasks in memory, as validation does before anything is written."""
        tasks = list(tasks)
        trees = {task.public.workspace_sha: task.workspace for task in tasks}
        trees |= {task.hidden.tests_sha: task.tests for task in tasks if task.hidden.tests_sha}
        calls = {task.hidden.calls_sha: task.calls for task in tasks if task.calls}
        return cls([(task.public, task.hidden) for task in tasks], trees=trees, calls=calls)

    @classmethod
    def open(cls, folder: Path) -> "TaskStore":
        """Open a task set, perhaps a stranger's, after checking all of it.

        Raises:
            UserError: There is no task set, it has another format, a file is damaged (named), or
                holds what no set may hold.
        """
        manifest = Manifest.read(folder)
        files = SetFolder(folder, listed=manifest.files)
        files.check()
        public = [
            task
            for split in SPLITS
            for task in files.read_records(name_split_file(split), RepairTask)
        ]
        halves = files.read_records("private/hidden.jsonl", HiddenTask)
        hidden = {half.task_id: half for half in halves}
        if len({task.id for task in public}) < len(public):
            refuse(folder, name_split_file("train"), "two tasks of one id")
        for task in public:
            if task.id not in hidden:
                refuse(folder, task.id, "it has no private half")
            files.check_task(task, hidden[task.id])
        pairs = [(task, hidden[task.id]) for task in public]
        return cls(pairs, trees={}, files=files, manifest=manifest)

    def split(self, name: Split) -> list[RepairTask]:
        """Return the tasks of a split in the order in which they were built."""
        return [task for task in self.public.values() if task.split == name]

    def narrow(self, difficulty: Mapping[str, tuple[int, int]]) -> "TaskStore":
        """Return the tasks whose difficulty lies within all ranges: field to (least, most).

        A task of which a field is not known is left out where that field is asked for.

        Raises:
            UserError: Nothing is left of a split.
        """
        kept = [name for name, task in self.public.items() if _lies_within(task, difficulty)]
        asked = ", ".join(f"{name} {low} to {high}" for name, (low, high) in difficulty.items())
        return self._select(
            kept,
            nothing="no {split} task is within tasks.difficulty",
            got=asked,
            remedy="widen it; `tightrope tasks stats` shows what there is",
        )

    def keep_recorded(self) -> "TaskStore":
        """Return the tasks that recorded calls grade too.

        Raises:
            UserError: Nothing is left of a split.
        """
        return self._select(
            [name for name, half in self.hidden.items() if half.calls],
            nothing="no {split} task has recorded calls",
            got="tasks.recorded_calls: required",
            remedy="build a set of real projects anew, or set it to `used`",
        )

    def _select(self, names: Iterable[str], *, nothing: str, got: str, remedy: str) -> "TaskStore":
        pairs = [(self.public[name], self.hidden[name]) for name in names]
        found = TaskStore(
            pairs,
            trees=self._trees,
            calls=self._calls,
            files=self._files,
            manifest=self.manifest,
        )
        for split in SPLITS:
            if self.split(split) and not found.split(split):
                raise UserError(nothing.format(split=split), got=got, remedy=remedy)
        return found

    def workspace(self, task: RepairTask) -> Files:
        """Return a copy of the broken workspace of `task`, path to text."""
        return self._tree("workspaces", task.workspace_sha)

    def tests(self, hidden: HiddenTask) -> Files:
        """Return a copy of the pristine tree of a pytest-graded task ({} for io-graded ones)."""
        return self._tree("private/tests", hidden.tests_sha) if hidden.tests_sha else {}

    def calls(self, hidden: HiddenTask) -> RecordedCalls | None:
        """Return the recorded calls of a task's project, None if it is not graded by any."""
        sha = hidden.calls_sha
        if sha and sha not in self._calls:
            assert self._files is not None, "a set in memory holds all its calls"
            name = f"private/calls/{sha}.json"
            self._calls[sha] = self._files.read_record(name, RecordedCalls)
        found = self._calls[sha] if sha else None
        if found and self._files and not found.sequences.keys() >= set(hidden.calls):
            refuse(self._files.path, hidden.task_id, "it names calls that were not recorded")
        return found

    def built(self) -> list[BuiltTask]:
        """Return the tasks with their trees, as a source made them."""
        return [
            BuiltTask(task, hidden, self.workspace(task), self.tests(hidden), self.calls(hidden))
            for task in self.public.values()
            for hidden in [self.hidden[task.id]]
        ]

    def _tree(self, place: str, sha: str) -> Files:
        if sha not in self._trees:
            assert self._files is not None, "a set in memory holds all its trees"
            tree = self._files.read_tree(place, sha)
            self._trees[sha] = {path: self._text(name) for path, name in tree.items()}
        return dict(self._trees[sha])

    def _text(self, sha: str) -> str:
        """Return a file's text; trees that hold the same file share it in memory too."""
        if sha not in self._texts:
            assert self._files is not None
            self._texts[sha] = self._files.read_text(sha)
        return self._texts[sha]


def write_built(folder: Path, *, tasks: Iterable[BuiltTask], manifest: Manifest) -> Manifest:
    """Write a task set whole or not at all, replacing one that is there.

    Returns:
        The manifest with what was written filled in.

    Raises:
        UserError: `folder` holds something that is not a task set.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "manifest.json").is_file():
        raise UserError(
            "the folder is not empty and not a task set",
            got=str(folder),
            remedy="name another folder in tasks.dir",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        whole = _write_draft(draft, list(tasks), manifest)
        _swap_in(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return whole


def _write_draft(draft: Path, tasks: Sequence[BuiltTask], manifest: Manifest) -> Manifest:
    numbers = Counter(task.public.split for task in tasks)
    counts = {split: numbers[split] for split in SPLITS}
    text = write_card(
        source=manifest.source, seed=manifest.seed, licence=manifest.licence, counts=counts
    )
    workspaces = {task.public.workspace_sha: task.workspace for task in tasks}
    tests = {task.hidden.tests_sha: task.tests for task in tasks if task.hidden.tests_sha}
    contents = {
        "README.md": text.encode("utf-8"),
        "private/hidden.jsonl": join_records(task.hidden for task in tasks).encode("utf-8"),
        **_tree_files(tests, place="private/tests", texts="private/files"),
        **_tree_files(workspaces, place="workspaces", texts="files"),
        **_call_files(tasks),
    }
    for name in [name for name in contents if name.startswith("private/files/")]:
        if name.removeprefix("private/") in contents:
            del contents[name]  # agents may read it, so it is kept once, where they may
    for split in SPLITS:
        text = join_records(task.public for task in tasks if task.public.split == split)
        contents[name_split_file(split)] = text.encode("utf-8")
    (draft / "private").mkdir(mode=0o700)
    for place in ("workspaces", "files", "private/tests", "private/files", "private/calls"):
        (draft / place).mkdir()
    for name, content in contents.items():
        (draft / name).write_bytes(content)
    files = {name: hash_text(contents[name]) for name in sorted(contents)}
    whole = manifest.model_copy(update={"counts": counts, "files": files})
    (draft / "manifest.json").write_text(whole.model_dump_json(indent=1) + "\n", "utf-8")
    draft.chmod(0o755)
    return whole


def _lies_within(task: RepairTask, difficulty: Mapping[str, tuple[int, int]]) -> bool:
    values = {name: getattr(task.difficulty, name) for name in difficulty}
    return all(
        values[name] is not None and low <= values[name] <= high
        for name, (low, high) in difficulty.items()
    )


def _tree_files(
    trees: Mapping[str, Mapping[str, str]], *, place: str, texts: str
) -> dict[str, bytes]:
    """Return name and content of the files of the set that hold trees and, each once, texts."""
    contents = {}
    for sha, tree in trees.items():
        encoded = {path: text.encode("utf-8") for path, text in tree.items()}
        named = {path: hash_text(data) for path, data in encoded.items()}
        contents[f"{place}/{sha}.json"] = _canonical(named)
        contents |= {f"{texts}/{named[path]}": data for path, data in encoded.items()}
    return contents


def _call_files(tasks: Sequence[BuiltTask]) -> dict[str, bytes]:
    """Return name and content of the files of recorded calls, without those of no task."""
    found = {task.hidden.calls_sha: task.calls for task in tasks if task.calls}
    contents = {}
    for sha, calls in found.items():
        used = {n for task in tasks if task.hidden.calls_sha == sha for n in task.hidden.calls}
        kept = {number: calls.sequences[number] for number in sorted(used)}
        text = calls.model_copy(update={"sequences": kept}).model_dump_json()
        contents[f"private/calls/{sha}.json"] = text.encode("utf-8")
    return contents


def _swap_in(draft: Path, folder: Path) -> None:
    """Put `draft` at `folder`; a set that was there is moved away first, then deleted."""
    if not folder.exists():
        draft.rename(folder)
        return
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-old-", dir=folder.parent) as old:
        folder.rename(Path(old) / "set")
        draft.rename(folder)


def _canonical(files: Mapping[str, str]) -> bytes:
    return json.dumps(dict(files), sort_keys=True, separators=(",", ":")).encode("ascii")
