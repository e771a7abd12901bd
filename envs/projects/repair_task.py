"""Repair tasks from a real project: what to plant, and what a planted bug makes of the project.

Bugs to try take turns between functions and operators. Of a bug whose failing tests are known, one
test function is shown and the rest are hidden; pass-to-pass is all other stable tests. Splits are
by project, as the lock file says, or by file (`envs/projects/file_splits.py`), and a function of
dev or test that nearly repeats one of an earlier split is left alone.
"""

import ast
import math
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from envs.files import hash_text
from envs.grading.graders import VISIBLE_LIMIT_S, run_visible_tests
from envs.grading.pytest_config import read_pytest_config
from envs.grading.test_suite import run_suite
from envs.mutation.bug import Bug
from envs.mutation.operators import Mutation, list_functions, list_mutations
from envs.projects.lock_file import Project
from envs.records import SPLITS, Provenance
from envs.sandbox.fork_server import ForkServer
from envs.syntax import parse_python
from envs.tasks.build_report import UNSTEADY
from envs.tasks.store import Files, hash_tree
from envs.tasks.validate import Gram, are_near_duplicates, describe_shape, list_grams
from envs.tasks.visible_tests import TestFunction, keep_case, parse_test_id, show_tests

GENERATOR = "projects/9"
MAX_PER_FUNCTION = 8  # candidates, so that no long function fills a split
MAX_PER_OPERATOR = 2  # of them by one operator: half of all sites would be return_none
LIMIT_S = 10.0  # of one grading at least: 5 times the toolz suite's cold time of 1.4 s, rounded up
MAX_SUITE_CPU_S = LIMIT_S / 2  # of a whole suite, for a grader that shares its processor
_SLOWER = 5  # a grading may be than its suite: on another machine, with the bug, beside others
SYMPTOM_CHARS = 400  # of the statement, for each bug
MAX_SHOWN = 3  # failing test functions that are tried as the visible one
MAX_CASES = 6  # cases of the only failing function that are tried as the visible one
NOTHING_SHOWN = "no visible test shows it"


class Function(NamedTuple):
    """A function or method of a project, by the name that a `Mutation` gives it."""

    project: str
    path: str
    name: str


def list_candidates(
    project: Project, *, files: Files, seed: int, repeats: Collection[Function] = ()
) -> list[Bug]:
    """Return single mutations to try in a random order that takes turns between functions.

    Of one function there are at most `MAX_PER_FUNCTION`, and `MAX_PER_OPERATOR` of one kind; of
    those in `repeats` none.
    """
    found = [
        mutation
        for path in project.own_files
        for mutation in list_mutations(files[path], path=path)
    ]
    random.Random(f"{GENERATOR}:{project.name}:{seed}").shuffle(found)
    queues: dict[Function, list[Mutation]] = defaultdict(list)
    for mutation in found:
        function = Function(project.name, mutation.path, mutation.function)
        if function not in repeats:
            queues[function].append(mutation)
    queues = {key: _mixed(queue) for key, queue in sorted(queues.items())}
    turns: list[Mutation] = []
    for turn in range(MAX_PER_FUNCTION):
        turns += [queue[turn] for queue in queues.values() if turn < len(queue)]
    return [Bug((mutation,)) for mutation in turns]


def _mixed(queue: Sequence[Mutation]) -> list[Mutation]:
    """Put a bug of each operator first, then a second of each; leave the others out."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, Mutation]] = []
    for mutation in queue:
        turns.append((seen[mutation.operator], mutation))
        seen[mutation.operator] += 1
    turns.sort(key=lambda turn: turn[0])
    return [mutation for number, mutation in turns if number < MAX_PER_OPERATOR]


def find_repeats(trees: Sequence[tuple[Project, Files]]) -> set[Function]:
    """Return the functions of dev and test projects that nearly repeat one of an earlier split.

    That is: the same syntax tree but for the names of arguments and locals, or most of its 5-grams.
    """
    shapes: set[str] = set()
    earlier: list[frozenset[Gram]] = []
    repeats: set[Function] = set()
    for split in SPLITS:
        units = [
            (Function(project.name, path, name), _unparsed(node))
            for project, files in trees
            if project.split == split
            for path in project.own_files
            for name, node in list_functions(parse_python(files[path]))
            if not isinstance(node, ast.ClassDef)
        ]
        forms = [(describe_shape(source), list_grams(source)) for _, source in units]
        repeats |= {
            name
            for (name, _), (shape, mine) in zip(units, forms, strict=True)
            if shape in shapes or any(are_near_duplicates(mine, old) for old in earlier)
        }
        shapes |= {shape for shape, _ in forms}
        earlier += [mine for _, mine in forms]
    return repeats


def _unparsed(node: ast.AST) -> str:
    """Return the source of a function; of one with a number too long to write, an empty one's."""
    try:
        return ast.unparse(node)
    except (ValueError, RecursionError):
        return f"def {getattr(node, 'name', '_')}(): ..."


class Description(NamedTuple):
    """A task's statement, or `reject`, why a bug has none."""

    statement: str
    reject: str | None = None


class ShownBug(NamedTuple):
    """A bug with a few test functions shown: what the agent gets, and what a repair makes of it."""

    workspace: Files
    repaired: Files
    visible_tests: tuple[str, ...]

    @classmethod
    def of(
        cls,
        files: Files,
        changed: Files,
        *,
        tests: Sequence[str],
        shown: Sequence[TestFunction],
        suite: Collection[str] = (),
        case: tuple[int, str] | None = None,
    ) -> "ShownBug":
        """Show test functions.

        Args:
            files: The whole unchanged tree.
            changed: The files that the bug changes, as it leaves them.
            tests: Ids of all tests that count.
            shown: The test functions that become visible, one for each bug that is combined.
            suite: Files of the suite; none where their names say it.
            case: Of the only function, the number of the one case that is shown, and its id then.
        """
        prefixes = read_pytest_config(files).functions
        workspace = show_tests(files, shown, suite=suite, prefixes=prefixes) | changed
        visible = tuple(each for each in tests if parse_test_id(each) in shown)
        if case:
            ((path, name),) = shown
            workspace[path], visible = keep_case(workspace[path], name, case[0]), (case[1],)
        repaired = workspace | {path: files[path] for path in changed}
        return cls(workspace, repaired, visible)

    def find_case(self, shown: TestFunction, *, server: ForkServer) -> "ShownBug":
        """Return the same, visible the one case that is left of a function, under its id of now.

        Nothing is visible if none of the function passes in the repaired tree, or several do.

        Raises:
            InfrastructureError: The sandbox failed.
        """
        run = run_suite(server, self.repaired, ids=None, limit_s=VISIBLE_LIMIT_S)
        names = tuple(test for test in run.passed if parse_test_id(test) == shown)
        return self._replace(visible_tests=names if len(names) == 1 else ())

    def describe(self, failing: Collection[str], *, server: ForkServer) -> Description:
        """Return a task's statement: of each function that is shown, what its first failure says.

        There is none if one does not fail in the workspace, or still does in the repaired one, or
        no failure of it says the same elsewhere: with other addresses, folders and process ids, in
        another second and on another day.

        Args:
            failing: Ids of the tests that count as such.
            server: Has pytest preloaded.

        Raises:
            InfrastructureError: The sandbox failed.
        """
        ids = self.visible_tests
        functions = dict.fromkeys(map(parse_test_id, ids))
        said = dict(run_visible_tests(server, self.workspace, ids=ids))
        shown = {parse_test_id(test) for test in said if test in failing}
        is_shown = bool(functions) and shown == functions.keys()
        if not is_shown or run_visible_tests(server, self.repaired, ids=ids):
            return Description("", NOTHING_SHOWN)
        again = dict(run_visible_tests(server.twin, self.workspace, ids=ids, elsewhere=True))
        first: dict[TestFunction, str] = {}
        for test, message in said.items():
            if test in failing and again.get(test) == message:
                symptom = f"{test} fails:\n{message}"[:SYMPTOM_CHARS]
                first.setdefault(parse_test_id(test), symptom)
        if first.keys() != functions.keys():
            return Description("", UNSTEADY)
        told = [first[each] for each in functions]
        if len(told) == 1:
            return Description(told[0])
        numbered = (f"{number}. {each}" for number, each in enumerate(told, start=1))
        head = f"{len(told)} separate bugs, of which each fails a test:"
        return Description("\n\n".join((head, *numbered)))


def name_bug(provenance: Provenance, changed: Files) -> str:
    """Return what tells a bug from all others, on which its id and random choices hang."""
    return f"{provenance.generator}:{provenance.sha256}:{hash_tree(changed)}"


def name_task(bug_name: str) -> str:
    """Return the id of the task of a bug, which says nothing about it."""
    return "t_" + hash_text(bug_name)[:12]


def choose_limit_s(suite_s: float) -> float:
    """Return how long a grading may compute: 10, 20, 40 ... seconds, since times of suites vary.

    Args:
        suite_s: CPU seconds that the whole suite took when the project was pinned.
    """
    doublings = math.ceil(math.log2(max(1.0, _SLOWER * suite_s / LIMIT_S)))
    return float(LIMIT_S * 2**doublings)
