"""What a build without a task says: why bugs were rejected, what that means, and what to change.

Tests: tests/envs/sources/test_build.py.
"""

from envs.errors import UserError
from envs.projects.check_mutant import ENTANGLED
from envs.projects.repair_task import NOTHING_SHOWN
from envs.projects.run_mutant import BREAKS, MOST_FAIL, NONE_FAILS, ONE_FAILS
from envs.tasks.build_report import (
    DIFFERS,
    GOLD_FAILS,
    GOLD_STUCK,
    NO_SANDBOX,
    ONE_REACHES,
    TOO_LONG,
    UNREACHED,
    UNSTEADY,
    BuildReport,
)
from envs.tasks.unshown import UNSHOWN

_ONE_FUNCTION = (
    "one test function alone notices each bug, so nothing would be left to hide; test the same "
    "code from a second function, or parametrise it with literal values: cases can be split"
)
ADVICE = {
    UNREACHED: "the tests execute hardly any of the code that could be changed; if they ought to, "
    "look whether they import the project from its folder and not an installed copy",
    ONE_REACHES: _ONE_FUNCTION,
    ONE_FAILS: _ONE_FUNCTION,
    NONE_FAILS: "the tests execute the code and notice nothing; let them compare results with "
    "what is expected",
    MOST_FAIL: "every bug fails most of the suite, which then says little about where it is; add "
    "tests of single functions, apart from what all tests go through",
    BREAKS: "bugs break the collection of the tests; call the code inside of tests, not while a "
    "test module, a parameter list or a conftest is loaded",
    NOTHING_SHOWN: "a failing test does not fail alone with its file, or fails on the repaired "
    "code too; tests must not lean on other tests of their file",
    ENTANGLED: "bugs that are combined are not told apart by the tests that show them; add tests "
    "of single functions",
    UNSHOWN: "what is hidden could not be known from what is shown; let several tests say what a "
    "function is to do, or say it in its docstring",
    TOO_LONG: "with a bug the suite takes more than five times its usual time; if the machine is "
    "busy, use --workers 1, else leave tests that wait out with --exclude",
    DIFFERS: "tests fail in one run and pass in the next; leave those that depend on order, time "
    "or chance out with --exclude",
    GOLD_FAILS: "the original code does not pass when it is graded; leave tests that depend on "
    "time or load out with --exclude, or use --workers 1",
    GOLD_STUCK: "the original code cannot be written back with the tools that an agent has; see "
    "docs/tasks.md",
    UNSTEADY: "a failing test says something else in each run; leave out with --exclude those "
    "whose messages have times, paths or random values in them",
    NO_SANDBOX: "the sandbox fails; `tightrope doctor` says what it lacks",
}
_LEAKS = (
    "a name or a message of the tests that would be shown says the answer; see Projects in "
    "docs/tasks.md"
)
_NO_BUGS = (
    "there is nothing to change in what its tests execute; it needs functions with branches, "
    "comparisons, arithmetic or calls"
)


def explain_no_task(report: BuildReport, *, source: str) -> UserError:
    """Return the error of a build of which nothing counts, with the advice for its main reason."""
    counts = report.rejects.most_common()
    if not counts and source not in ("projects", "path"):
        remedy = "let its function yield tasks of the splits that are asked for"
        return UserError("a task source made no task", got=source, remedy=remedy)
    got = ", ".join(f"{count} {reason}" for reason, count in counts)
    reason, what = counts[0][0] if counts else "", "no task passed its checks"
    if repeated := report.find_repeated():
        reason = repeated
        what = f"stopped: no task, and {report.rejects[reason]} bugs rejected for one reason"
    advice = _LEAKS if reason.startswith("leak") else ADVICE.get(reason, "see docs/tasks.md")
    return UserError(what, got=got, remedy=advice if counts else _NO_BUGS)
