"""Where the calls of an episode are carried out and its submission graded: the workbench.

It holds the task set and the graders, and keeps nothing of an episode: each request says what the
episode has done to its workspace so far. So any workbench can serve any turn, and one that is
killed takes no other episode with it. It stands in a worker process (`envs/workers/pool.py`).
Tests: tests/envs/workers/test_pool.py.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from envs.errors import InfrastructureError
from envs.grading.graders import Equipment, Grader, TaskFiles, make_grader
from envs.records import FailedPart, Outcome, TestReport, ToolCall
from envs.tools import Toolbox, TurnDone
from envs.workspace import Changes, Workspace

MAX_SERVERS = 6  # fork-servers of one workbench, about 40 MB each; a set of 37 projects asks for 10


class Workbench:
    """Carries out tools and gradings, one after another.

    Args:
        store: The task set.
        grader: Its graders.
    """

    def __init__(self, store: TaskFiles, grader: Grader) -> None:
        self._store, self._grader = store, grader

    def use_tools(self, task_id: str, changes: Changes, calls: Sequence[ToolCall]) -> TurnDone:
        """Carry out the calls of one turn; see `Bench`."""
        task = self._store.public[task_id]

        def run_visible(files: dict[str, str], selector: str) -> TestReport:
            with _failing("visible_tests"):
                return self._grader.run_visible(task, files, selector)

        workspace = Workspace.of(self._store.workspace(task), task.editable)
        workspace.take(changes)
        began = time.monotonic()
        results = Toolbox(workspace, run_visible=run_visible).run_turn(calls)
        seconds = time.monotonic() - began
        return TurnDone(tuple(results), workspace.changes(), seconds)

    def grade(self, task_id: str, files: dict[str, str]) -> Outcome:
        """Grade submitted files; see `Bench`."""
        with _failing("grading"):
            return self._grader.grade(self._store.hidden[task_id], files)


@contextmanager
def _failing(part: FailedPart) -> Iterator[None]:
    """Have an infrastructure failure say what failed."""
    try:
        yield
    except InfrastructureError as error:
        raise InfrastructureError(str(error), part=part) from error


@contextmanager
def open_workbench(
    store: TaskFiles, *, equipment: Equipment, second_runner_share: float, cache_dir: Path
) -> Iterator[Workbench]:
    """Open the workbench of a worker process; its fork-servers end with it."""
    with make_grader(
        store,
        second_runner_share=second_runner_share,
        cache_dir=cache_dir,
        equipment=equipment,
        max_servers=MAX_SERVERS,
    ) as grader:
        yield Workbench(store, grader)
