"""Reads a task set's folder as a stranger's: nothing outside it, nothing that its manifest lacks.

    folder = SetFolder(path, listed=manifest.files)
    folder.check()
    tasks = folder.read_records("train.jsonl", RepairTask)

A name is relative and stays inside, a file is a regular one, is as long as files of sets are, and
has the sha256 that is listed. Whatever is otherwise is a `UserError` with the name of the file.
Tests: tests/envs/tasks/test_set_folder.py.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from envs.errors import UserError
from envs.files import hash_text, is_inside, read_regular
from envs.plain_text import visible
from envs.records import HiddenTask, RepairTask, Span
from envs.workspace import Workspace

REBUILD_REMEDY = "run `tightrope tasks build --config FILE --clean`"
STRANGE_REMEDY = "build the set again, or take it from somebody whom you trust"
MAX_FILE_BYTES = 256 * 2**20  # 3,000 tasks of 37 projects have 60 MB in the largest
MAX_SET_BYTES = 2 * 2**30
MAX_TREE_BYTES = 64 * 2**20  # a project may have 8 MiB, of which some are kept twice as long
MAX_TREE_FILES = 20_000
_MAX_SHOWN = 200  # characters of what is wrong
_R = TypeVar("_R", bound=BaseModel)
_TREE = TypeAdapter(dict[str, str])

Tree = Mapping[str, str]  # path to the sha256 of its text


class SetFolder:
    """The files of a set.

    Args:
        folder: Where it lies.
        listed: Sha256 of each of its files, by name.
    """

    def __init__(self, folder: Path, *, listed: Mapping[str, str]) -> None:
        self.path, self._listed = folder, listed
        self._sizes: dict[str, int] = {}
        self._folders_of: dict[str, tuple[str, ...]] = {}

    def check(self) -> None:
        """Compare every file with what is listed.

        Raises:
            UserError: One is missing, damaged, or nothing that a set may hold.
        """
        top = self.path.resolve()
        for name in self._listed:
            if not is_inside(name):
                refuse(self.path, name, "a name of no file inside the set")
        for parent in {PurePosixPath(name).parent for name in self._listed}:
            if (self.path / parent).resolve() != top / parent:
                refuse(self.path, str(parent), "a link, which leads elsewhere")
        for name in self._listed:
            with contextlib.suppress(OSError):  # named when it is read
                self._sizes[name] = (self.path / name).lstat().st_size
        if sum(self._sizes.values()) > MAX_SET_BYTES:
            refuse(self.path, "", f"more than {MAX_SET_BYTES // 2**20} MiB")
        for name, sha in self._listed.items():
            if hash_text(self.read(name)) != sha:
                raise UserError(
                    "a file of the task set is damaged or missing",
                    got=visible(f"{self.path / name}"),
                    remedy=REBUILD_REMEDY,
                )

    def read(self, name: str) -> bytes:
        """Return what is in a file.

        Raises:
            UserError: It is not listed, or cannot be read.
        """
        if name not in self._listed:
            refuse(self.path, name, "not listed in the manifest")
        try:
            return read_regular(self.path / name, max_bytes=MAX_FILE_BYTES)
        except OSError as error:
            raise UserError(
                "a file of the task set is damaged or missing",
                got=visible(f"{self.path / name}: {error.strerror}"),
                remedy=REBUILD_REMEDY,
            ) from error

    def read_records(self, name: str, kind: type[_R]) -> list[_R]:
        """Return the records of a file.

        Raises:
            UserError: A line is none.
        """
        return [
            self._parse(name, number, line, kind)
            for number, line in enumerate(self.read(name).split(b"\n"), start=1)
            if line.strip()
        ]

    def read_record(self, name: str, kind: type[_R]) -> _R:
        """Return the record that a file holds.

        Raises:
            UserError: It holds none.
        """
        return self._parse(name, 1, self.read(name), kind)

    def read_tree(self, place: str, sha: str) -> dict[str, str]:
        """Return what a tree is made of: path to the sha256 of its text.

        Raises:
            UserError: A path leads out of it, a text is not in the set, or it is too large.
        """
        name = f"{place}/{sha}.json"
        try:
            tree = _TREE.validate_json(self.read(name))
        except ValidationError as error:
            refuse(self.path, name, _describe(error))
        size = 0
        for path, text in tree.items():
            held = self._find_text(text)
            if held not in self._listed:
                refuse(self.path, held, "not listed in the manifest")
            size += self._sizes[held]
            if path not in self._folders_of:
                if not is_inside(path):
                    refuse(self.path, name, f"a path that leads out of it ({path[:99]})")
                parts = path.split("/")[:-1]
                folders = tuple("/".join(parts[: at + 1]) for at in range(len(parts)))
                self._folders_of[path] = folders
            if not tree.keys().isdisjoint(self._folders_of[path]):
                refuse(self.path, name, f"a path below a file ({path[:99]})")
        if len(tree) > MAX_TREE_FILES or size > MAX_TREE_BYTES:
            refuse(self.path, name, f"{len(tree)} files of {size / 2**20:.0f} MiB")
        return tree

    def read_text(self, sha: str) -> str:
        """Return a text, by its sha256.

        Raises:
            UserError: The set has none of it.
        """
        name = self._find_text(sha)
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError:
            refuse(self.path, name, "no UTF-8")

    def check_task(self, task: RepairTask, hidden: HiddenTask) -> None:
        """Compare both halves of a task with its trees.

        Raises:
            UserError: They do not belong together.
        """
        workspace = self.read_tree("workspaces", task.workspace_sha)
        pristine = self.read_tree("private/tests", hidden.tests_sha) if hidden.tests_sha else {}
        if hidden.grader == "pytest":
            hidden_tests = {*hidden.fail_to_pass, *hidden.pass_to_pass}
            for tests, tree in ((hidden_tests, pristine), (task.visible_tests, workspace)):
                named = {test.partition("::")[0] for test in tests}
                self._check_paths(task, named, tree, "its tests")
        self._check_paths(task, task.editable, workspace, "what may be edited")
        self._check_paths(task, [span.path for span in hidden.gold_spans], workspace, "its repair")
        edited = {edit.path for edit in hidden.gold_edits}
        self._check_paths(task, edited, task.editable, "its repair")
        copy = Workspace.of({path: self.read_text(workspace[path]) for path in edited}, ())
        for edit in hidden.gold_edits:
            if not 1 <= edit.start <= edit.end + 1 <= len(copy.lines(edit.path)) + 1:
                refuse(self.path, task.id, f"its repair is of lines {edit.start} to {edit.end}")
            copy.edit(Span(path=edit.path, start=edit.start, end=edit.end), edit.text)

    def _check_paths(
        self, task: RepairTask, paths: Iterable[str], known: Iterable[str], what: str
    ) -> None:
        """Refuse paths that are not known; an option of pytest, too, would begin with a dash."""
        for path in {*paths}.difference(known):
            refuse(self.path, task.id, f"{what} names no file of its tree ({path[:99]})")
        for path in paths:
            if path.startswith(("-", "@")):
                refuse(self.path, task.id, f"{what} names an option ({path[:99]})")

    def _find_text(self, sha: str) -> str:
        """Return the file that holds a text: agents may read those that are not private."""
        public, private = f"files/{sha}", f"private/files/{sha}"
        return public if public in self._listed else private

    def _parse(self, name: str, number: int, line: bytes, kind: type[_R]) -> _R:
        try:
            return kind.model_validate_json(line)
        except ValidationError as error:
            refuse(self.path, name, f"line {number}: {_describe(error)}", cause=error)


def refuse(folder: Path, name: str, why: str, *, cause: Exception | None = None) -> NoReturn:
    """Raise the error for what no set may hold."""
    got = visible(f"{folder / name}: {why}"[: len(str(folder)) + _MAX_SHOWN])
    raise UserError(
        "the task set holds what no set may hold", got=got, remedy=STRANGE_REMEDY
    ) from cause


def _describe(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return "{loc}: {msg}".format(**first)
