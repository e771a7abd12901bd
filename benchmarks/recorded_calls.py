"""What recorded calls alone tell: of each pinned project bugs, their neighbours, honest variants.

    python benchmarks/recorded_calls.py --cache .cache/tightrope --bugs 10 --only toolz,parse

For each project: bugs that the suite rejects, drawn by seed 0. Of those with recorded calls (some
tell the bug): up to 5 other mutants of the same function that the suite rejects, and how many of
them the calls of the first bug's task reject; three variants of the unchanged function that do the
same otherwise written (names of locals, swapped branches, results by a name), and how many of them
are rejected; CPU seconds of the calls as a share of the whole suite's. Prints a row as soon as it
is known, and keeps it in the cache: the same command goes on where it ended. Once all 37 are known
the table goes to benchmarks/results/recorded_calls.md. An hour on two cores.
"""

import argparse
import ast
import json
import random
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.any_project import commit
from envs.grading.recorded_calls import compose_request, find_disagreement, leave_out
from envs.grading.test_suite import list_suite, run_suite
from envs.mutation.bug import Bug
from envs.projects.lock_file import Project, fetch, load_lock, read_sdist
from envs.projects.record_calls import Recording, choose_sequences, record_calls
from envs.projects.repair_task import list_candidates
from envs.sandbox.fork_server import ForkServer
from envs.source_text import source_lines
from envs.syntax import find_innermost, first_line, last_line, parse_python
from envs.tasks.code_key import CHILD, code_key
from envs.tasks.store import Files

LIMIT_S = 60.0
NUM_NEIGHBOURS = 5


def main() -> int:
    """Print the table; returns 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--bugs", type=int, default=10)
    parser.add_argument("--only", default="", help="names, separated by commas")
    asked = parser.parse_args()
    names = set(filter(None, asked.only.split(",")))
    lines = ["| project | bugs | with calls | neighbours rejected | variants rejected | CPU |"]
    lines.append("|---|---|---|---|---|---|")
    print("\n".join(lines), flush=True)
    sums, shares = [0] * 6, list[float]()
    projects = load_lock(ROOT / "configs" / "projects.lock.json")
    for project in projects:
        if not names or project.name in names:
            counts, share = measure_once(project, cache=asked.cache, num_bugs=asked.bugs)
            sums = [a + b for a, b in zip(sums, counts, strict=True)]
            shares += share
            lines.append(row(project.name, counts, share))
            print(lines[-1], flush=True)
    lines.append(row("all", sums, shares))
    print(lines[-1], flush=True)
    if len(lines) == len(projects) + 3:
        head = (
            f"# Recorded calls alone\n\n`python benchmarks/recorded_calls.py --bugs {asked.bugs}`"
        )
        head += f", {commit()}, Python {sys.version.split()[0]}, seed 0; CPU: median share of the "
        head += "suite's seconds. What is counted: the script's first lines.\n\n"
        path = ROOT / "benchmarks" / "results" / "recorded_calls.md"
        path.write_text(head + "\n".join([*lines, ""]), "utf-8")
    return 0


def measure_once(project: Project, *, cache: Path, num_bugs: int) -> tuple[list[int], list[float]]:
    """Return what was measured of a project by the same code, or measure it."""
    code = code_key("envs.projects.record_calls", CHILD)[:12]
    kept = cache / "calls" / f"{project.name}-{num_bugs}-{code}.counts.json"
    if not kept.is_file():
        found = measure(project, cache=cache, num_bugs=num_bugs)
        kept.write_text(json.dumps(found), "utf-8")
    counts, shares = json.loads(kept.read_text("utf-8"))
    return counts, shares


def row(name: str, counts: list[int], shares: list[float]) -> str:
    """Return a line of the table."""
    bugs, told, neighbours, rejected, variants, wrong = counts
    cpu = f"{median(shares):.0%}" if shares else "-"
    return (
        f"| {name} | {bugs} | {told} | {rejected} of {neighbours} | {wrong} of {variants} | {cpu} |"
    )


def measure(project: Project, *, cache: Path, num_bugs: int) -> tuple[list[int], list[float]]:
    """Return counts of (bugs, with calls, neighbours, rejected, variants, rejected), CPU shares."""
    files = read_sdist(project, sdist=fetch(project, cache_dir=cache))
    suite = list_suite(files, project.suite)
    interpreter = project.find_interpreter(cache_dir=cache)
    counts, shares = [0] * 6, list[float]()
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        skip = project.excluded_tests
        run = run_suite(server, files, ids=None, skip=skip, limit_s=LIMIT_S)
        tests = sorted(run.passed)
        path = cache / "calls" / f"{project.name}.json"
        recording = record_calls(
            files, tests=tests, suite=suite, limit_s=LIMIT_S, server=server, path=path
        )
        every = list_candidates(project, files=files, seed=0)
        for bug in every:
            if counts[0] == num_bugs:
                break
            if not rejects(bug, files, tests, server):
                continue
            counts[0] += 1
            numbers = choose_sequences(bug, recording=recording, files=files, server=server)
            if numbers:
                counts[1] += 1
                judge = Judge(server, files, recording, numbers)
                found = judge.count(bug, every, tests)
                counts[2:] = [a + b for a, b in zip(counts[2:], found, strict=True)]
                shares.append(judge.seconds() / run.cpu_s)
            else:
                print(f"not told: {bug.mutations[0]!r}"[:300], file=sys.stderr, flush=True)
    return counts, shares


def rejects(bug: Bug, files: Files, tests: list[str], server: ForkServer) -> bool:
    """Tell whether some tests fail by a bug, at most half, and the run ends."""
    run = run_suite(server, files | bug.apply(files), ids=tests, limit_s=LIMIT_S)
    failing = len(tests) - len(run.passed)
    return run.complete and 0 < failing <= len(tests) / 2


class Judge:
    """The recorded calls of one task."""

    def __init__(
        self, server: ForkServer, files: Files, recording: Recording, numbers: tuple[int, ...]
    ) -> None:
        self._server, self._files = server, files
        self._calls, self._numbers = recording.calls, numbers

    def count(self, bug: Bug, every: list[Bug], tests: list[str]) -> list[int]:
        """Return numbers of (neighbours, rejected, variants, rejected)."""
        one = bug.mutations[0]
        place = (one.path, one.function)
        near = [
            each for each in every if (each.mutations[0].path, each.mutations[0].function) == place
        ]
        near = [each for each in near if each != bug]
        near = [each for each in near if rejects(each, self._files, tests, self._server)]
        near = near[:NUM_NEIGHBOURS]
        variants = list(vary(self._files[one.path], one.line))
        return [
            len(near),
            sum(self.disagrees(each.apply(self._files)) for each in near),
            len(variants),
            sum(self.disagrees({one.path: text}) for text in variants),
        ]

    def disagrees(self, changed: Files) -> bool:
        """Tell whether the recorded calls reject changed files."""
        found = find_disagreement(
            self._server,
            self._files | changed,
            calls=self._calls,
            numbers=self._numbers,
            limit_s=LIMIT_S,
        )
        return bool(found)

    def seconds(self) -> float:
        """Return the CPU seconds of the calls on the unchanged project."""
        operations = {n: self._calls.sequences[n].operations for n in self._numbers}
        bare = leave_out(self._files, self._calls.suite)
        request = compose_request(bare, operations, runtime=self._server.interpreter.runtime)
        return self._server.run_limited(request, limit_s=LIMIT_S).cpu_s


def vary(text: str, line: int) -> Iterator[str]:
    """Yield the file with the function at a line written otherwise, doing the same."""
    function = find_innermost(parse_python(text), line, line)
    if function is None:
        return
    lines = source_lines(text)
    start, end = first_line(function), last_line(function)
    indent = lines[start - 1][: len(lines[start - 1]) - len(lines[start - 1].lstrip())]
    for change in (_RenameLocals, _SwapBranches, _NameResults):
        tree = ast.parse(textwrap.dedent("\n".join(lines[start - 1 : end])))
        changed = ast.unparse(ast.fix_missing_locations(change().visit(tree)))
        yield "\n".join([*lines[: start - 1], textwrap.indent(changed, indent), *lines[end:], ""])


class _RenameLocals(ast.NodeTransformer):
    """Gives locals other names, unless inner functions or declarations may mean them too."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:  # noqa: N802
        inner = list(ast.walk(node))
        kinds = (ast.Global, ast.Nonlocal, ast.FunctionDef, ast.Lambda, ast.ClassDef, ast.MatchAs)
        if any(isinstance(each, kinds) for each in inner[1:]):
            return node
        used = {each.id for each in inner if isinstance(each, ast.Name)}
        if used & {"locals", "eval", "exec", "vars", "dir"}:
            return node
        made = {
            each.id
            for each in inner
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        }
        arguments = {each.arg for each in inner if isinstance(each, ast.arg)}
        caught = {each.name for each in inner if isinstance(each, ast.ExceptHandler)}
        for each in inner:
            if isinstance(each, ast.Name) and each.id in made - arguments - caught:
                each.id = f"{each.id}_here"
        return node


class _SwapBranches(ast.NodeTransformer):
    """Turns `if a: b else: c` into `if not a: c else: b`."""

    def visit_If(self, node: ast.If) -> ast.AST:  # noqa: N802
        self.generic_visit(node)
        if node.orelse:
            node.test = ast.UnaryOp(ast.Not(), node.test)
            node.body, node.orelse = node.orelse, node.body
        return node


class _NameResults(ast.NodeTransformer):
    """Turns `return a` into `result_here = a; return result_here`."""

    def visit_Return(self, node: ast.Return) -> ast.AST | list[ast.stmt]:  # noqa: N802
        if node.value is None:
            return node
        made = ast.Assign([ast.Name("result_here", ast.Store())], node.value)
        return [made, ast.Return(ast.Name("result_here", ast.Load()))]

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:  # noqa: N802
        return node


if __name__ == "__main__":
    random.seed(0)
    sys.exit(main())
