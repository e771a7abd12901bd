"""Errors by whose they are: the user's, or the infrastructure's.

A bad rollout is data and raises nothing. Tests: tests/train/stages/test_exit_codes.py.
"""

import difflib
import errno
import os
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path

from envs.plain_text import representable
from envs.records import FailedPart


class UserError(Exception):
    """Something that only the user can correct; the command ends with code 2 and this line.

    Args:
        what: What is wrong, as a phrase.
        got: What was found ('' if there is nothing to show).
        remedy: The command or change that corrects it.
    """

    def __init__(self, what: str, *, got: str = "", remedy: str) -> None:
        self.what, self.got, self.remedy = what, got, remedy
        found = f" (got: {got})" if got else ""
        stop = "" if not found and what.endswith(("?", ".")) else "."
        super().__init__(f"{what}{found}{stop} Remedy: {remedy}")

    def __reduce__(self) -> tuple[Callable[..., "UserError"], tuple[str]]:
        """Let it be sent to other processes."""
        return partial(UserError, got=self.got, remedy=self.remedy), (self.what,)


class InfrastructureError(Exception):
    """The sandbox or the machine failed, not the candidate: retried, then marked unscorable.

    Args:
        what: What happened, for a reader.
        part: What failed, by which failures are counted.
    """

    def __init__(self, what: str, *, part: FailedPart | None = None) -> None:
        super().__init__(representable(what))
        self.part = part


def suggest(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of an unknown name: the nearest known one, else all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def list_near(test: str, known: Collection[str]) -> list[str]:
    """Return up to three files or tests that an unknown one may stand for; its name will do."""
    ends = sorted(each for each in known if each.endswith((f"::{test}", f"/{test}")))
    return ends[:3] or difflib.get_close_matches(test, known, n=3)


def find_storage_error(error: BaseException) -> UserError | None:
    """Return what is wrong with disk or folders, if that is behind `error`, else None."""
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES) and error.filename:
        remedy = "name folders that you may read and write in run.dir, run.cache and tasks.dir"
        what = f"no access: {os.strerror(error.errno)}"
        return UserError(what, got=str(error.filename), remedy=remedy)
    if isinstance(error, OSError) and error.errno in (errno.ENOTDIR, errno.EEXIST):
        named = Path(os.fsdecode(error.filename or ""))
        files = [path for path in (named, *named.parents) if path.exists() and not path.is_dir()]
        if files:
            remedy = "move it, or name another folder (run.dir, run.cache, tasks.dir, --out)"
            return UserError("a file where a folder is needed", got=str(files[0]), remedy=remedy)
    remedy = "free some space, or name another folder in run.dir; then --resume"
    cause: BaseException | None = error
    while cause is not None:  # libraries hide a full disk behind errors of their own
        code = cause.errno if isinstance(cause, OSError) else None
        if code in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(cause):
            where = cause.filename if isinstance(cause, OSError) else None
            return UserError("the disk is full", got=str(where or ""), remedy=remedy)
        if "inline_container.cc" in str(cause):  # torch's archive writer says no more than that
            return UserError("torch could not write a file; is the disk full?", remedy=remedy)
        cause = cause.__cause__ or cause.__context__
    return None
