"""The agent's world: eleven tools over one workspace. The docstrings are what the model reads.

A tool never raises for what the model did: it answers with a short text that says what was
expected. Rewrites of the context (`evict`, `compact`) and `submit` only state an intention;
`envs/environment.py` carries it out.
"""

import ast
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.calls.lenient_json import decode
from envs.calls.malformed import Malformed, clip
from envs.errors import InfrastructureError
from envs.records import Behaviour, JsonValue, Span, Strategy, TestReport, ToolCall
from envs.source_text import holds_bytes, source_lines
from envs.syntax import parse_python
from envs.workspace import Changes, Workspace, number_lines

_READING = ("list_files", "search", "outline", "read_lines", "read_file")
_OTHERS = ("edit_lines", "run_tests", "note", "evict", "compact", "submit")
NAMES = (*_READING, *_OTHERS)
REWRITES = ("evict", "compact")
_OF_REWRITES = ("note", *REWRITES)  # where the model rewrites nothing there is nothing to keep
RunVisible = Callable[[dict[str, str], str], TestReport]
_MAX_HITS = 20
# Of one turn: each may take minutes where it hangs, and a turn that takes too long counts as the
# machine's failure (`train/rollouts/runner.py`), which without this bound a candidate could cause.
MAX_TEST_RUNS = 3
_CONTEXT_LINES = 1


class ToolError(Exception):
    """A call the tool cannot carry out; the text is shown to the model."""


@dataclass(frozen=True)
class ToolResult:
    """What a tool says: text for the model, and the source lines it shows.

    Attributes:
        text: Lines for the model.
        spans: One span whose lines are the text's, or one span of a line per line of text.
        num_head_lines: Lines of text before those that `spans` describe.
        version: The workspace's, when the lines were read.
        is_error: The call could not be carried out.
    """

    text: str
    spans: tuple[Span, ...] = ()
    num_head_lines: int = 0
    version: int = 0
    is_error: bool = False

    def spans_within(self, num_lines: int) -> tuple[Span, ...]:
        """Return the spans that the first `num_lines` lines of text still show."""
        num_shown = max(0, num_lines - self.num_head_lines)
        if len(self.spans) == 1 and num_shown:
            span = self.spans[0]
            return (span.model_copy(update={"end": min(span.end, span.start + num_shown - 1)}),)
        return self.spans[:num_shown]


@dataclass(frozen=True)
class TurnDone:
    """What the tools of a turn said, what the workspace has become, and how long they took."""

    results: tuple[ToolResult, ...]
    changes: Changes
    seconds: float = 0.0


class Toolbox:
    """The tools of one episode.

    Args:
        workspace: The files the tools work on.
        run_visible: Runs the visible tests whose id contains a selector on given files.
    """

    def __init__(self, workspace: Workspace, *, run_visible: RunVisible) -> None:
        self.workspace = workspace
        self._run_visible = run_visible

    def list_files(self) -> ToolResult:
        """List all files with their number of lines."""
        files = self.workspace.files
        rows = (
            f"{path} no text" if holds_bytes(text) else f"{path} {len(source_lines(text))} lines"
            for path, text in sorted(files.items())
        )
        return ToolResult("\n".join(rows))

    def search(self, pattern: str) -> ToolResult:
        """Find lines that contain a text, in all files.

        Args:
            pattern: Plain text.
        """
        # Plain text on purpose: a model's regular expression could run for ever in the trainer.
        hits = [
            (path, number, line)
            for path, text in sorted(self.workspace.files.items())
            if not holds_bytes(text)
            for number, line in enumerate(self.workspace.lines(path), start=1)
            if pattern in line
        ]
        rows = [f"{path}:{number}: {line}" for path, number, line in hits[:_MAX_HITS]]
        if len(hits) > _MAX_HITS:
            rows.append(f"and {len(hits) - _MAX_HITS} more: search for a longer text")
        spans = [Span(path=path, start=number, end=number) for path, number, _ in hits[:_MAX_HITS]]
        return self._result("\n".join(rows) or "no match", *spans)

    def outline(self, path: str) -> ToolResult:
        """Show functions and classes of a file with their line ranges.

        Args:
            path: The file.
        """
        self._require(path)
        try:
            tree = parse_python(self.workspace.files[path])
        except SyntaxError as error:
            raise ToolError(f"{clip(path, 40)} does not parse: {clip(str(error), 40)}") from None
        return ToolResult("\n".join(_symbols(tree, prefix="")) or "no functions or classes")

    def read_lines(self, path: str, start: int, end: int) -> ToolResult:
        """Show lines of a file with their numbers.

        Args:
            path: The file.
            start: First line, from 1.
            end: Last line, included.
        """
        lines = self._require(path)
        if not 1 <= start <= len(lines):
            raise ToolError(f"{clip(path, 40)} has lines 1 to {len(lines)}")
        span = Span(path=path, start=start, end=min(max(start, end), len(lines)))
        return self._result(self._numbered(span), span)

    def read_file(self, path: str) -> ToolResult:
        """Show a whole file with line numbers. Costly: prefer read_lines.

        Args:
            path: The file.
        """
        lines = self._require(path)
        if not lines:
            return ToolResult("empty file")
        span = Span(path=path, start=1, end=len(lines))
        return self._result(self._numbered(span), span)

    def edit_lines(self, path: str, start: int, end: int, text: str) -> ToolResult:
        """Replace lines of a file.

        Args:
            path: The file.
            start: First line to replace.
            end: Last line to replace; start - 1 inserts before start.
            text: The new lines.
        """
        lines = self._require(path)
        if path not in self.workspace.editable:
            raise ToolError(f"{clip(path, 40)} is read-only")
        if not (1 <= start <= len(lines) + 1 and start - 1 <= end <= len(lines)):
            raise ToolError(
                f"{clip(path, 40)} has lines 1 to {len(lines)}, end is at least start - 1"
            )
        span = Span(path=path, start=start, end=end)
        if self.workspace.is_stale(span):
            raise ToolError("stale line numbers: an edit moved these lines, read them again")
        preview = Workspace.of(self.workspace.files, (path,))
        preview.edit(span, text)
        if path.endswith(".py"):
            try:
                parse_python(preview.files[path])
            except SyntaxError as error:
                where = f"line {error.lineno}" if error.lineno else str(error)[:80]
                raise ToolError(f"not edited, syntax error: {where}") from None
        new = self.workspace.edit(span, text)
        last = max(1, len(self.workspace.lines(path)))
        around = Span(
            path=path,
            start=max(1, new.start - _CONTEXT_LINES),
            end=min(last, max(new.start, new.end + _CONTEXT_LINES)),
        )
        return self._result("edited\n" + self._numbered(around), around, num_head_lines=1)

    def run_tests(self, selector: str = "") -> ToolResult:
        """Run the visible tests.

        Args:
            selector: Only tests whose id contains this; empty for all.
        """
        report = self._run_visible(dict(self.workspace.files), selector)
        rows = [f"{report.num_passed} passed, {len(report.failures)} failed"]
        rows += [f"{message}" for _, message in report.failures]
        return ToolResult("\n".join(rows))

    def note(self, file: str, facts: str, lines: str) -> ToolResult:
        """Keep a fact with a pointer; notes stay when the context is rewritten.

        Args:
            file: The file the fact is about.
            facts: What to remember, short.
            lines: Its lines, such as 4-9.
        """
        self._require(file)
        if parse_range(lines) is None:
            raise ToolError("lines must be like 4-9")
        return self._result("noted")

    def evict(self, observation_ids: list[str]) -> ToolResult:
        """Drop results that are used up; a one-line stub remains.

        Args:
            observation_ids: Ids such as o3.
        """
        return ToolResult("evicted")

    def compact(self, summary: str) -> ToolResult:
        """Replace everything so far by your summary. Must be the last call of its turn.

        Args:
            summary: What is done, what is left, and where.
        """
        return ToolResult("compacted")

    def submit(self) -> ToolResult:
        """Hand in the repair and end."""
        return ToolResult("submitted")

    def run_turn(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Carry out the calls of a turn up to a submit; what goes wrong is a result too."""
        results: list[ToolResult] = []
        num_test_runs = 0
        for call in calls:
            num_test_runs += call.name == "run_tests"
            try:
                if call.name == "run_tests" and num_test_runs > MAX_TEST_RUNS:
                    raise ToolError(f"not run: at most {MAX_TEST_RUNS} runs of tests in a turn")
                results.append(self.run(call))
            except ToolError as error:
                results.append(ToolResult(f"error: {error}", is_error=True))
            else:
                if call.name == "submit":
                    break
        return results

    def run(self, call: ToolCall) -> ToolResult:
        """Check a call's arguments and carry it out.

        Raises:
            ToolError: The call is malformed or cannot be carried out.
        """
        if call.error is not None:
            raise ToolError(call.error)
        if call.name not in NAMES:
            raise ToolError(explain_unknown_tool(NAMES))
        tool: Callable[..., ToolResult] = getattr(self, call.name)
        return tool(**convert_arguments(tool, call.arguments))

    def _require(self, path: str) -> list[str]:
        if path not in self.workspace.files:
            raise ToolError(f"no file {clip(path, 40)}")
        if holds_bytes(self.workspace.files[path]):
            raise ToolError(f"{clip(path, 40)} is no text")
        return self.workspace.lines(path)

    def _numbered(self, span: Span) -> str:
        lines = self.workspace.lines(span.path)[span.start - 1 : span.end]
        return number_lines(lines, span.start)

    def _result(self, text: str, *spans: Span, num_head_lines: int = 0) -> ToolResult:
        return ToolResult(text, spans, num_head_lines, self.workspace.version)


PARAMETERS = {
    name: [each for each in inspect.signature(getattr(Toolbox, name)).parameters if each != "self"]
    for name in NAMES
}


def no_sandbox(files: dict[str, str], selector: str) -> TestReport:
    """Stand where no visible tests can be run, for scripts that ask for none."""
    del files, selector
    raise InfrastructureError("visible tests cannot be run here", part="visible_tests")


def convert_arguments(
    tool: Callable[..., ToolResult], given: Mapping[str, JsonValue]
) -> dict[str, Any]:
    """Match arguments with a tool's signature; numbers and lists may come as text.

    Raises:
        ToolError: An argument is missing, unknown or of the wrong type.
    """
    parameters = inspect.signature(tool).parameters
    names = [name for name in parameters if name != "self"]
    usage = f"expected {tool.__name__}({', '.join(names)})"
    optional = {name for name in names if parameters[name].default is not inspect.Parameter.empty}
    given = {name: v for name, v in given.items() if v is not None or name not in optional}
    if missing := [name for name in names if name not in given and name not in optional]:
        raise ToolError(f"{usage}, {missing[0]} is missing")
    if unknown := [name for name in given if name not in names]:
        raise ToolError(f"{usage}, not {clip(unknown[0], 16)}")
    return {name: _typed(name, given[name], parameters[name].annotation, usage) for name in given}


def convert_call(call: ToolCall) -> ToolCall:
    """Return a call with arguments of its tool's types, as it is if they cannot be."""
    if call.error is not None or call.name not in NAMES:
        return call
    try:
        arguments = convert_arguments(getattr(Toolbox, call.name), call.arguments)
    except ToolError:
        return call
    return call.model_copy(update={"arguments": arguments})


def _typed(name: str, value: JsonValue, kind: object, usage: str) -> JsonValue:
    if kind is int:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", value):
            return int(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e9:
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ToolError(f"{usage}, {name} is a whole number")
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if kind is str and not isinstance(value, str):
        raise ToolError(f"{usage}, {name} is text")
    if kind == list[str]:
        value = _texts(value)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ToolError(f"{usage}, {name} is a list of texts")
    return value


def _texts(value: JsonValue) -> JsonValue:
    """Read a list that came as text: `["o1", "o2"]`, `[o1, o2]`, `o1, o2`, `o1`."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            decoded = decode(text, 0)
        except Malformed:
            pass
        else:
            return decoded.value if decoded.end == len(text) else value
        text = text.removeprefix("[").removesuffix("]")
    return [each for each in re.split(r"[\s,]+", text) if each]


def parse_range(lines: str) -> tuple[int, int] | None:
    """Read '4-9' or '4' as (first, last), from 1; None when it is neither."""
    found = re.fullmatch(r"\s*(\d{1,7})(?:\s*-\s*(\d{1,7}))?\s*", lines)
    start, end = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    return (start, end) if 1 <= start <= end else None


def list_tools(strategy: Strategy, without: Collection[Behaviour] = ()) -> tuple[str, ...]:
    """Return the tools of a context strategy: only under learned ones the model rewrites."""
    left_out = () if strategy in ("learned", "learned_net") else _OF_REWRITES
    return tuple(name for name in NAMES if name not in (*left_out, *without))


def explain_unknown_tool(names: Sequence[str]) -> str:
    """Return the answer to a call of a tool that is not among `names`."""
    return "unknown tool, use one of: " + ", ".join(names)


def describe_tools(names: Sequence[str] = NAMES) -> str:
    """One line per tool, signature and first line of its docstring (`prompt.tools: brief`)."""
    rows, missing = [], set(NAMES) - set(names)
    for name in names:
        tool = getattr(Toolbox, name)
        parameters = ", ".join(p for p in inspect.signature(tool).parameters if p != "self")
        first = (inspect.getdoc(tool) or "").partition("\n")[0]
        # no advice to use a tool that is not there
        first = re.sub(r" [^.]*\b(\w+)\.$", lambda m: "" if m[1] in missing else m[0], first)
        rows.append(f"{name}({parameters}): {first}")
    return "\n".join(rows)


def _symbols(node: ast.AST, *, prefix: str) -> list[str]:
    rows = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = prefix + child.name
            rows.append(f"{child.lineno}-{child.end_lineno} {name}")
            if isinstance(child, ast.ClassDef):
                rows += _symbols(child, prefix=f"{name}.")
    return rows
