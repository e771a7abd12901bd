"""Counts failures of the sandbox that come one after another, and gives up when they are many.

One failure is the machine's bad moment: what it spoiled is tried again, then dropped and counted.
Many in a row are a machine that no longer works.
"""

from envs.errors import InfrastructureError

MAX_FAILURES = 5
NO_SANDBOX = "the sandbox failed"  # why something was dropped


class Streak:
    """Failures since something worked."""

    def __init__(self) -> None:
        self._num_failures = 0

    def worked(self) -> None:
        """Begin anew."""
        self._num_failures = 0

    def failed(self, error: InfrastructureError) -> None:
        """Count one more.

        Raises:
            InfrastructureError: There were `MAX_FAILURES` of them in a row.
        """
        self._num_failures += 1
        if self._num_failures == MAX_FAILURES:
            raise InfrastructureError(
                f"the sandbox failed {MAX_FAILURES} times in a row, the last time: {error}. What is"
                " known is kept: the same command goes on from here"
            ) from error
