"""What is known of a project's unchanged suite: its green tests, and the lines that each executes.

Taken once for a tree, a Python, a pytest and a state of the code in `envs/`, which says how a suite
runs, and kept in the cache: five runs that must agree, one that is timed, and two that are traced.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import InfrastructureError
from envs.files import hash_text, write_whole
from envs.grading.test_suite import SuiteRun, run_suite
from envs.projects.lock_file import Project
from envs.projects.stable_tests import SUITE_LIMIT_S, green_tests
from envs.projects.test_impact import Reach
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.interpreter import Interpreter, find_interpreter
from envs.tasks.store import Files, content_sha

TRACED_LIMIT_S = 10 * SUITE_LIMIT_S  # tracing took 5 to 7 times the CPU time of inflection, toolz


@dataclass(frozen=True)
class Baseline:
    """An unchanged suite.

    Attributes:
        green: Ids of the tests that passed in five runs.
        cpu_s: CPU seconds of one run of them.
        reach: Which of them reach a mutation.
    """

    green: tuple[str, ...]
    cpu_s: float
    reach: Reach


def baseline(project: Project, *, files: Files, server: ForkServer, cache_dir: Path) -> Baseline:
    """Return what is known of a project's suite, after eight runs of it if nothing is.

    Args:
        files: Its whole tree.
        server: Runs the timed and traced ones; has pytest preloaded.
        cache_dir: Where it is kept.

    Raises:
        UserError: The suite is not green.
        InfrastructureError: The sandbox failed twice.
    """
    path = cache_dir / "mutants" / f"{project.name}-{project.version}.suite.json"
    interpreter = find_interpreter(project.runtime, cache_dir=cache_dir)
    made_by = [*interpreter.versions, code_sha(), content_sha(files)]
    named = json.dumps([*made_by, *project.mutated, *sorted(project.excluded_tests)])
    key = hash_text(named)
    known = _read(path)
    if known.get("key") != key:
        try:
            known = _measured(project, files, server, interpreter)
        except InfrastructureError:
            known = _measured(
                project, files, server, interpreter
            )  # all of it: five runs must agree
        if known.pop("in_time"):
            write_whole(path, json.dumps({"key": key, **known}))
    green = tuple(known["green"])
    reach = Reach(files, paths=project.mutated, green=green, traces=known["traces"])
    return Baseline(green, known["cpu_s"], reach)


@functools.cache
def code_sha() -> str:
    """Return one name for the state of all code in `envs/`."""
    folder = Path(__file__).resolve().parents[1]
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*.py")}
    return content_sha({name: path.read_text("utf-8") for name, path in found.items()})


def _measured(
    project: Project, files: Files, server: ForkServer, interpreter: Interpreter
) -> dict[str, Any]:
    green = green_tests(files, excluded=project.excluded_tests, interpreter=interpreter)
    timed = run_suite(server, files, ids=green, limit_s=SUITE_LIMIT_S)
    traced = [
        run_suite(
            server,
            files,
            ids=green,
            limit_s=TRACED_LIMIT_S,
            trace=project.mutated,
            backwards=backwards,
        )
        for backwards in (False, True)
    ]
    return {
        "green": green,
        "cpu_s": round(timed.cpu_s, 2),
        "traces": [_lines_of_passed(run) for run in traced],
        "in_time": all(run.ending != "timeout" for run in traced),
    }


def _lines_of_passed(run: SuiteRun) -> Mapping[str, str]:
    """Return the lines of tests that passed; nothing for the others: tracing disturbed them."""
    return {name: lines for name, lines in run.lines.items() if not name or name in run.passed}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
