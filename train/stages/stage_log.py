"""Two places for what a stage writes: our lines go to the terminal, all else to its log file.

    with LibraryLog() as log:  # lines of libraries are held back
        ...
        keep_log(stage.path)  # from here on, and with those before, in log.txt

Progress lines, announcements and errors are written with `say`, or to `terminal()`. Whatever is
written to `sys.stderr` otherwise, by Python, by native code and by the processes that a stage
starts, are warnings and notices of libraries: `log.txt`, of other ranks `log_1.txt` and so on.
Before the stage has a folder they are held back, and lost if the command ends there.
"""

import io
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import BinaryIO, Self, TextIO, cast


def terminal() -> TextIO:
    """Return where the user reads along: standard error as it was before the log took its place."""
    stream = sys.stderr
    return stream.terminal if isinstance(stream, _LogStream) else stream


def say(text: str) -> None:
    """Write one line for the user."""
    stream = terminal()
    stream.write(f"{text}\n")
    stream.flush()


def keep_log(folder: Path, *, rank: int = 0, stdout: bool = False, resumes: bool = True) -> None:
    """Move the log, if there is one, into the folder of a stage.

    Args:
        folder: The stage's; made if it is missing.
        rank: Of this process; each writes a file of its own.
        stdout: Take standard output as well, of a stage that prints nothing there.
        resumes: The stage's command knows `--resume`.
    """
    if isinstance(sys.stderr, _LogStream):
        sys.stderr.log.resumes = resumes
        sys.stderr.log.keep_in(folder, rank=rank, stdout=stdout)


class LibraryLog:
    """Takes the place of standard error; one at a time.

    Args:
        enabled: False leaves everything as it is.

    Attributes:
        path: The log file; None as long as the stage has no folder.
        resumes: `--resume` continues what was begun.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.path: Path | None = None
        self.resumes = False
        self._enabled = enabled
        self._stderr, self._stdout = sys.stderr, sys.stdout
        self._file: BinaryIO | None = None
        self._saved: dict[int, int] = {}  # descriptors as they were

    def __enter__(self) -> Self:
        if self._enabled:
            self._file = tempfile.TemporaryFile(buffering=0)
            self._take(2)
            sys.stderr = _LogStream(self, self._own_lines())
        return self

    def __exit__(self, *_: object) -> None:
        sys.stderr, sys.stdout = self._stderr, self._stdout
        for number, saved in self._saved.items():
            os.dup2(saved, number)
            os.close(saved)
        self._saved.clear()
        if self._file is not None:
            self._file.close()

    def keep_in(self, folder: Path, *, rank: int = 0, stdout: bool = False) -> None:
        """Go on in a file in `folder`, behind what is there, beginning with what was held back."""
        assert self._file is not None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (f"log_{rank}.txt" if rank else "log.txt")
        held, self._file = self._file, path.open("ab", buffering=0)
        if self.path is None:
            held.seek(0)
            self._file.write(held.read())
        held.close()
        self.path = path
        os.dup2(self._file.fileno(), 2)
        if stdout and 1 not in self._saved:
            self._stdout.flush()
            self._take(1)
            sys.stdout = sys.stderr

    def write_traceback(self) -> bool:
        """Write the traceback of the error being handled; False if there is no room for it."""
        if self.path is None:
            return False
        try:
            with self.path.open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
        except OSError:
            return False
        return True

    def _take(self, number: int) -> None:
        assert self._file is not None
        self._saved[number] = os.dup(number)
        os.dup2(self._file.fileno(), number)

    def _own_lines(self) -> TextIO:
        """Return a stream to the terminal, whose descriptor has just been taken."""
        try:
            is_descriptor = self._stderr.fileno() == 2
        except (OSError, ValueError):
            is_descriptor = False
        if not is_descriptor:  # what reads along in this process, such as a test
            return self._stderr
        stream = open(  # noqa: SIM115 (closes no descriptor)
            self._saved[2],
            "w",
            buffering=1,
            encoding=self._stderr.encoding,
            errors="backslashreplace",
            closefd=False,
        )
        return cast(TextIO, stream)


class _LogStream(io.TextIOWrapper):
    """Standard error while the log stands in its place; knows where our own lines go."""

    def __init__(self, log: LibraryLog, terminal: TextIO) -> None:
        raw = io.FileIO(2, "w", closefd=False)
        super().__init__(raw, "utf-8", errors="backslashreplace", write_through=True)  # type: ignore[arg-type]
        self.log, self.terminal = log, terminal
