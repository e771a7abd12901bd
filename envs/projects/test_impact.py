"""Which tests reach a planted bug: from the lines that each test executes in the unchanged project.

Until a changed statement is executed, a mutant does what the project does, so a test that executes
none of them passes as before. A change that also alters how its function is compiled (a name
becomes local, a generator a plain function) is reached by all that execute any line of the
function; one that no statement holds, or that breaks the compilation, by all tests.

The lines come from two runs, one of them backwards. What a test executes in one of them only
depends on what ran before it (a memo that another test filled), so such lines count for all tests.

Not covered: state between tests that shows in neither order. A bug that only such a test would
notice passes for one that no test notices; what is accepted is confirmed by the whole suite.
"""

import ast
import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import CodeType

from envs.mutation.operators import Mutation
from envs.mutation.spans import Source
from envs.sandbox.child_coverage import ALL_LINES, LINES_PER_FILE, read_trace
from envs.source_text import source_lines
from envs.syntax import parse_python
from envs.tasks.store import Files

Extent = tuple[int, int]  # first and last line, 1-based
_KIND = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Reach:
    """Tells which green tests reach a mutation, and how many calls are between them.

    Args:
        files: The unchanged tree.
        paths: The files that were traced.
        green: The tests to choose from.
        traces: Of each run what each test executed (`envs/sandbox/child_coverage.py`), '' for all
        tests. A test
            that is missing in one counts as reaching everything.
    """

    def __init__(
        self,
        files: Files,
        *,
        paths: Sequence[str],
        green: Sequence[str],
        traces: Sequence[Mapping[str, str]],
    ) -> None:
        self._green = frozenset(green)
        self._numbers = {path: number for number, path in enumerate(paths)}
        self._sources = {path: _Source(files[path]) for path in paths}
        told = {
            name: [read_trace(trace.get(name, ALL_LINES)) for trace in traces]
            for name in ("", *green)
        }
        self._distances = {name: told[name][0][1] for name in green}
        executed = {name: [lines for lines, _ in runs] for name, runs in told.items()}
        unknown = {name for name, runs in executed.items() if None in runs}
        self._reach_all = unknown - {""}
        self._lines_of_all: set[int] = set()
        self._by_line: dict[int, set[str]] = {}
        self._is_known = "" not in unknown
        for name in told.keys() - unknown:
            runs = [lines for lines in executed[name] if lines is not None]
            everywhere = frozenset.intersection(*runs)
            self._lines_of_all |= frozenset.union(*runs) - everywhere
            if not name:
                self._lines_of_all |= everywhere
            for line in everywhere if name else ():
                self._by_line.setdefault(line, set()).add(name)

    def tests(self, mutations: Iterable[Mutation]) -> frozenset[str]:
        """Return the green tests that may notice a bug that consists of `mutations`."""
        return frozenset().union(*map(self._tests_of, mutations))

    def distance(self, mutations: Iterable[Mutation], *, tests: Iterable[str]) -> int | None:
        """Return the calls from the nearest of `tests` to the nearest mutated function.

        None if none of the tests was seen to call one. A test that calls the function itself is at
        distance 1.
        """
        wanted = {
            self._numbers[one.path] * LINES_PER_FILE + line
            for one in mutations
            for line in self._sources[one.path].function_of(one)
        }
        calls = (call for test in tests for call in self._distances[test].items())
        return min((far for line, far in calls if line in wanted), default=None)

    def _tests_of(self, mutation: Mutation) -> frozenset[str]:
        lines = self._sources[mutation.path].lines_of(mutation) if self._is_known else None
        if lines is None:
            return self._green
        base = self._numbers[mutation.path] * LINES_PER_FILE
        numbers = {base + line for line in lines}
        if numbers & self._lines_of_all:
            return self._green
        return frozenset(self._reach_all.union(*(self._by_line.get(n, ()) for n in numbers)))


class _Source:
    """One file: where its statements and outermost functions are."""

    def __init__(self, text: str) -> None:
        self._source, self._lines = Source(text), source_lines(text, keepends=True)
        tree = parse_python(text)
        self._extents = [extent for node in ast.walk(tree) for extent in _own_lines(node)]
        self._functions = list(_outermost(tree))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        self._all = [
            (_first_line(node), node.end_lineno or node.lineno)
            for node in ast.walk(tree)
            if isinstance(node, kinds)
        ]

    def function_of(self, mutation: Mutation) -> list[int]:
        """Return the first line of the innermost function around a mutation."""
        holding = [first for first, last in self._all if first <= mutation.line <= last]
        return holding[-1:]  # walk goes inwards

    def lines_of(self, mutation: Mutation) -> set[int] | None:
        """Return lines of which one is executed by each test that may notice; None for any test."""
        first, last = self._span(mutation)
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
            if not holding and self._lines[line - 1].partition("#")[0].strip():
                return None
            found |= {each for start, stop in holding for each in range(start, stop + 1)}
        return found or None

    def _span(self, mutation: Mutation) -> Extent:
        """Return first and last changed line; with what is above, if lines are put between."""
        start, last = mutation.start, mutation.end
        first = self._source.line_of(start)
        if start < last:
            last -= 1
        elif not self._source.text[self._source.line_span(first)[0] : start].strip():
            first = max(1, first - 1)
        return first, self._source.line_of(last)

    def _compiles_alike(self, mutation: Mutation, *, first: int, last: int) -> bool | None:
        """Tell whether the change leaves kinds of functions and names; None if it is no Python."""
        start = self._source.line_span(first)[0]
        old = "".join(self._lines[first - 1 : last])
        cut = slice(mutation.start - start, mutation.end - start)
        new = old[: cut.start] + mutation.replacement + old[cut.stop :]
        try:
            return _alike(f"{old}\n", f"{new}\n")
        except (SyntaxError, ValueError, RecursionError):
            return None


def _alike(old: str, new: str) -> bool:
    """Tell whether functions that are in both texts bind the same names and are of one kind."""
    before, after = _shapes(old), _shapes(new)
    return all(before[name] == after[name] for name in before.keys() & after.keys())


def _shapes(function: str) -> dict[str, list[tuple[int, frozenset[str]]]]:
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
        end = node.end_lineno or node.lineno
        if isinstance(node, ast.Match):
            end = node.subject.end_lineno or node.lineno
        elif body:
            end = max(node.lineno, _first_line(body[0]) - 1)
        yield _first_line(node), end
    elif isinstance(node, ast.match_case):
        yield node.pattern.lineno, max(node.pattern.lineno, _first_line(node.body[0]) - 1)


def _outermost(node: ast.AST) -> Iterator[tuple[int, int, int]]:
    """Yield first line, first line of the body and last line of the outermost functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield _first_line(child), _first_line(child.body[0]), child.end_lineno or child.lineno
        else:
            yield from _outermost(child)


def _first_line(node: ast.stmt | ast.ExceptHandler) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(item.lineno for item in decorators)])
