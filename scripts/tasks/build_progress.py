"""Shows the stretches of a build on the terminal: one progress line for each."""

from train.stages.progress import Progress


class Stages:
    """One progress line for each stretch of the build."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def report(self, what: str, done: int, total: int, note: str = "") -> None:
        """Say how many of how many are done of what; another `what` begins another line."""
        if self._progress is None or self._progress.what != what:
            self._close()
            self._progress = Progress(what, total=total, unit="done")
            self._progress.__enter__()
        self._progress.total = total
        self._progress.update(done, note=note)

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.__exit__()
