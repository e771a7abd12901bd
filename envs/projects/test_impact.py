"""Which tests reach a planted bug: from the lines that each test executes in the unchanged project.

Until a changed statement is executed, a mutant does what the project does, so a test that executes
none of them passes as before. A change that also alters how its function is compiled (a name
becomes local, a generator a plain function) is reached by all that execute any line of the
function; one that no statement holds, or that breaks the compilation, by all tests.

The lines come from two runs, one of them backwards. What a test executes in one of them only
depends on what ran before it (a memo that another test filled), so such lines count for all tests.

Not covered: state between tests that shows in neither order, and what a test has run in another
process. A bug that only such a test would notice passes for one that no test notices; where others
notice it too, the task counts that test as one that passes, which it does once the bug is mended.
"""

import ast
import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import CodeType

from envs.mutation.operators import Mutation
from envs.mutation.spans import Source
from envs.sandbox.child_coverage import ALL_LINES, LINES_PER_FILE, read_trace
from envs.syntax import FUNCTIONS, find_innermost, first_line, last_line, parse_python
from envs.tasks.store import Files

Extent = tuple[int, int]  # first and last line, 1-based
_KIND = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class TestImpact:
    """Tells which stable tests reach a mutation, and how many calls are between them.

    Args:
        files: The unchanged tree.
        paths: The files that were traced.
        stable_tests: The tests to choose from.
        traces: Of each run what each test executed (`envs/sandbox/child_coverage.py`), '' for all
            tests. A test that is missing in one counts as reaching everything.
    """

    __test__ = False  # not a test class for pytest

    def __init__(
        self,
        files: Files,
        *,
        paths: Sequence[str],
        stable_tests: Sequence[str],
        traces: Sequence[Mapping[str, str]],
    ) -> None:
        self._numbers = {path: number for number, path in enumerate(paths)}
        self._sources = {path: _TracedSource(files[path]) for path in paths}
        self._lines: dict[str, frozenset[int] | None] = {}  # None where they are not known
        self._distances: dict[str, Mapping[int, int]] = {}
        varying = frozenset[int]()
        for name in ("", *stable_tests):
            read = [read_trace(trace.get(name, ALL_LINES)) for trace in traces]
            runs = [lines for lines, _ in read if lines is not None]
            self._distances[name], self._lines[name] = read[0][1], None
            if len(runs) == len(read):
                self._lines[name] = always = frozenset.intersection(*runs)
                varying |= frozenset.union(*runs) - always
        of_all = self._lines.pop("")
        self._lines_of_all = None if of_all is None else of_all | varying

    def select_tests(self, mutations: Iterable[Mutation]) -> frozenset[str]:
        """Return the stable tests that may notice a bug that consists of `mutations`."""
        return frozenset().union(*map(self._select_tests, mutations))

    def measure_distance(
        self, mutations: Iterable[Mutation], *, tests: Iterable[str]
    ) -> int | None:
        """Return the calls from the nearest of `tests` to the nearest mutated function.

        None if none of the tests was seen to call one. A test that calls the function itself is at
        distance 1.
        """
        wanted = {
            self._numbers[one.path] * LINES_PER_FILE + line
            for one in mutations
            if (line := self._sources[one.path].find_function(one))
        }
        calls = (call for test in tests for call in self._distances[test].items())
        return min((far for line, far in calls if line in wanted), default=None)

    def _select_tests(self, mutation: Mutation) -> frozenset[str]:
        lines = self._sources[mutation.path].find_lines(mutation)
        base = self._numbers[mutation.path] * LINES_PER_FILE
        numbers = {base + line for line in lines or ()}
        if lines is None or self._lines_of_all is None or numbers & self._lines_of_all:
            return frozenset(self._lines)
        return frozenset(
            name
            for name, known in self._lines.items()
            if known is None or not numbers.isdisjoint(known)
        )


class _TracedSource(Source):
    """One file: where its statements and outermost functions are."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._tree = parse_python(text)
        self._extents = [extent for node in ast.walk(self._tree) for extent in _own_lines(node)]
        self._functions = list(_outermost(self._tree))

    def find_function(self, mutation: Mutation) -> int | None:
        """Return the first line of the innermost function around a mutation."""
        function = find_innermost(self._tree, mutation.line, mutation.line)
        return None if function is None else first_line(function)

    def find_lines(self, mutation: Mutation) -> set[int] | None:
        """Return lines of which one is executed by each test that may notice; None for any test."""
        first, last = self._find_changed_lines(mutation)
        function = next((f for f in self._functions if f[0] <= first and last <= f[2]), None)
        if function is not None:
            same = self._compiles_alike(mutation, first=function[0], last=function[2])
            if same is None:
                return None
            if not same:
                return set(range(function[1], function[2] + 1))
        found: set[int] = set()
        for line in range(first, last + 1):
            holding = [extent for extent in self._extents if extent[0] <= line <= extent[1]]
            if not holding and self.lines[line - 1].partition("#")[0].strip():
                return None
            found |= {each for start, stop in holding for each in range(start, stop + 1)}
        return found or None

    def _find_changed_lines(self, mutation: Mutation) -> Extent:
        """Return first and last changed line; with what is above, if lines are put between."""
        start, last = mutation.start, mutation.end
        first = self.line_of(start)
        if start < last:
            last -= 1
        elif not self.text[self.line_span(first)[0] : start].strip():
            first = max(1, first - 1)
        return first, self.line_of(last)

    def _compiles_alike(self, mutation: Mutation, *, first: int, last: int) -> bool | None:
        """Tell whether the change leaves kinds of functions and names; None if it is no Python."""
        start = self.line_span(first)[0]
        old = "".join(self.lines[first - 1 : last])
        cut = slice(mutation.start - start, mutation.end - start)
        new = old[: cut.start] + mutation.replacement + old[cut.stop :]
        try:
            return _bind_alike(f"{old}\n", f"{new}\n")
        except (SyntaxError, ValueError, RecursionError):
            return None


def _bind_alike(old: str, new: str) -> bool:
    """Tell whether functions that are in both texts bind the same names and are of one kind."""
    before, after = _read_shapes(old), _read_shapes(new)
    return all(before[name] == after[name] for name in before.keys() & after.keys())


def _read_shapes(function: str) -> dict[str, list[tuple[int, frozenset[str]]]]:
    """Return kind and bound names of a function and of those in it, by qualified name."""
    indent = "if 1:\n" if function[:1].isspace() else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        waiting = [compile(indent + function, "<function>", "exec", dont_inherit=True)]
    found: dict[str, list[tuple[int, frozenset[str]]]] = {}
    while waiting:
        code = waiting.pop()
        if not code.co_name.startswith("<"):  # a lambda is part of the statement that makes it
            shape = code.co_flags & _KIND, frozenset(code.co_varnames + code.co_cellvars)
            found.setdefault(code.co_qualname, []).append(shape)
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return found


def _own_lines(node: ast.AST) -> Iterator[Extent]:
    """Yield the lines of a statement without the statements in it."""
    if isinstance(node, (ast.stmt, ast.ExceptHandler)):
        body = getattr(node, "body", None)
        end = last_line(node)
        if isinstance(node, ast.Match):
            end = last_line(node.subject)
        elif body:
            end = max(node.lineno, first_line(body[0]) - 1)
        yield first_line(node), end
    elif isinstance(node, ast.match_case):
        yield node.pattern.lineno, max(node.pattern.lineno, first_line(node.body[0]) - 1)


def _outermost(node: ast.AST) -> Iterator[tuple[int, int, int]]:
    """Yield first line, first line of the body and last line of the outermost functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            yield first_line(child), first_line(child.body[0]), last_line(child)
        else:
            yield from _outermost(child)
