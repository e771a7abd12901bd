"""The folder from which servers load adapters: one per version of the policy, renamed when whole.

A version's name is used once: servers hold what they computed under a name, whatever its files say
(vllm#42125), and a resumed run trains other versions under the same numbers. So each start of the
trainer has a word of its own in all names. What a start was called is kept until it has ended in
good order: the next one deletes and unloads what a killed one has left.

Tests: tests/train/servers/test_adapters.py.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from envs.files import to_json, write_whole
from train.servers import client

_DRAFT = ".part"


@dataclass
class AdapterFolder:
    """Writes versions of an adapter, and deletes those that nobody asks for any more.

    Attributes:
        folder: An absolute path under which all servers see it.
        prefix: Begins the names of all versions, such as `qwen3b-1f0c`.
        is_main: The other processes of the run only take part in saving.
        record: File of the run that says where versions may lie; None keeps none.
    """

    folder: Path
    prefix: str
    is_main: bool = True
    record: Path | None = None
    _written: list[int] = field(default_factory=list)

    def begin(self, servers: Sequence[str]) -> None:
        """Do away with what a killed start of this run has left; note what this one will leave.

        Args:
            servers: URLs of those that outlive the run.
        """
        if not self.is_main or self.record is None:
            return
        if self.record.is_file():
            _clear(**json.loads(self.record.read_text(encoding="utf-8")))
        self.record.parent.mkdir(parents=True, exist_ok=True)
        row = {"folder": str(self.folder), "prefix": self.prefix, "servers": [*servers]}
        write_whole(self.record, to_json(row) + "\n")

    def end(self) -> None:
        """Delete all versions."""
        self.keep()
        if self.is_main and self.record is not None:
            self.record.unlink(missing_ok=True)

    def name(self, version: int) -> str:
        """Return the name of a version, by which servers know it."""
        return f"{self.prefix}-v{version}"

    def path(self, version: int) -> Path:
        """Return the folder of a version."""
        return self.folder / self.name(version)

    def write(self, version: int, save: Callable[[Path], None]) -> None:
        """Write a version; `save` is called in all processes, with a folder."""
        draft = self.folder / f"{self.name(version)}{_DRAFT}"
        if self.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(draft, ignore_errors=True)
        save(draft)
        if self.is_main:
            draft.replace(self.path(version))
        self._written.append(version)

    def keep(self, *versions: int) -> None:
        """Delete all but these."""
        for version in set(self._written) - {*versions}:
            if self.is_main:
                shutil.rmtree(self.path(version), ignore_errors=True)
            self._written.remove(version)


def _clear(*, folder: str, prefix: str, servers: Sequence[str]) -> None:
    """Delete all versions of a start, and unload them where a server still has them."""
    begins = f"{prefix}-v"
    for path in Path(folder).glob("*"):
        if path.name.startswith(begins):
            shutil.rmtree(path, ignore_errors=True)
    for url in servers:
        with suppress(client.ServerLost):  # with it went what it had loaded
            for name in client.list_adapters(url):
                if name.startswith(begins):
                    client.unload_adapter(url, name)
