"""Refusals on the way to a stage's first step; a dry run meets the same ones, and shows first.

    opening = Opening(is_dry=command.dry_run)
    with opening.check():
        check_gate(sft, force=command.force)
    ...
    opening.end()

What a dry run can do without (a warm start that is still missing, its gate, a folder that holds a
run) is kept until it has shown the rest. Everything else is refused where it is met.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from envs.errors import UserError


@dataclass
class Opening:
    """Raises a refusal at once, or keeps the first one where nothing is opened (`is_dry`)."""

    is_dry: bool
    refused: UserError | None = None

    @contextmanager
    def check(self) -> Iterator[None]:
        """Keep what the block refuses, if this is a dry run."""
        try:
            yield
        except UserError as error:
            if not self.is_dry:
                raise
            self.refused = self.refused or error

    def end(self) -> None:
        """Raise what was kept."""
        if self.refused:
            raise self.refused
