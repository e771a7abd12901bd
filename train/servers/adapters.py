"""The folder from which servers load adapters: one per version of the policy, renamed when whole.

A version's name is used once: servers hold what they computed under a name, whatever its files say
(vllm#42125), and a resumed run trains other versions under the same numbers. So each start of the
trainer has a word of its own in all names.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_DRAFT = ".part"


@dataclass
class AdapterFolder:
    """Writes versions of an adapter, and deletes those that nobody asks for any more.

    Attributes:
        folder: An absolute path under which all servers see it.
        prefix: Begins the names of all versions, such as `qwen3b-1f0c`.
        is_main: The other processes of the run only take part in saving.
    """

    folder: Path
    prefix: str
    is_main: bool = True
    _written: list[int] = field(default_factory=list)

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
