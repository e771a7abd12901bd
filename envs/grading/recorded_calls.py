"""Grading by recorded calls: what the suite asks of the project, asked without the suite.

While a task is made, operations that cross from the tests into the unchanged project are recorded
as sequences that share objects (`envs/projects/record_calls.py`). What the unchanged project gives
for them stays on this side. To grade, the submitted tree without its tests does some of them again
(`envs/sandbox/child_replay.py`), and what comes back is compared here: results by exact type and
public attributes, floats within 1e-9, exceptions by class, what became of arguments, what iterators
give.

No expected value is in the candidate's process, as with the io grader. Not covered: what tests do
with files, time, other processes and classes of their own; that is the pytest grader's alone.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from envs.files import hash_text
from envs.records import JsonValue, Record, Runtime
from envs.sandbox.fork_server import ForkServer

Files = dict[str, str]
Results = list[Any]  # of one sequence: for each operation its result and perhaps its arguments
TOLERANCE = 1e-9  # of floats, relative and absolute
SEQUENCE_LIMIT_S = 0.5  # CPU seconds; what needs more than a fifth of it is not recorded
MAX_OUTPUT_BYTES = 64 * 2**20


class RecordedSequence(Record):
    """Operations that share objects, and what the unchanged project gives for them.

    An operation is [number, kind, target, name, arguments, named arguments, mode]; values are
    written as in `envs/call_values.py`.
    """

    operations: tuple[JsonValue, ...]
    expected: JsonValue


class RecordedCalls(Record):
    """The sequences of a project, by number; `suite` are files that a candidate runs without."""

    suite: tuple[str, ...]
    sequences: dict[int, RecordedSequence]

    @cached_property
    def sha256(self) -> str:
        """Name of all that the project has, also of a part of it."""
        return hash_text(self.model_dump_json())


def find_disagreement(
    server: ForkServer,
    tree: Files,
    *,
    calls: RecordedCalls,
    numbers: Collection[int],
    limit_s: float,
) -> str:
    """Return what a tree does otherwise than the unchanged project, '' if it does the same.

    Args:
        server: Any fork-server for the project's interpreter.
        tree: The tree to grade; files of the suite are taken out.
        calls: Of the project.
        numbers: The sequences to do.
        limit_s: Seconds that all of them may compute, and as many sleep.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    operations = {number: calls.sequences[number].operations for number in arrange(numbers)}
    found = replay(server, leave_out(tree, calls.suite), operations, limit_s=limit_s)
    for number in numbers:
        expected = calls.sequences[number].expected
        if number not in found:
            return f"recorded calls, sequence {number}: it did not end"
        at = find_first(found[number], expected)
        if at is not None:
            return f"recorded calls, sequence {number}: {_name(operations[number], at)} differs"
    return ""


def arrange(numbers: Iterable[int], *, draw: int = 0) -> list[int]:
    """Return sequences in the order in which they are done, always the same for the same ones.

    What one gives may depend on those before it, where a project keeps something for all.
    """
    return sorted(numbers, key=lambda number: hash_text(f"{draw}:{number}"))


def leave_out(tree: Files, suite: Collection[str]) -> Files:
    """Return a tree without the files of its suite."""
    return {path: text for path, text in tree.items() if path not in suite}


def replay(
    server: ForkServer,
    tree: Files,
    operations: Mapping[int, tuple[JsonValue, ...]],
    *,
    limit_s: float,
    sequence_limit_s: float = SEQUENCE_LIMIT_S,
) -> dict[int, Results]:
    """Return what each sequence gives on a tree, in this order; one that did not end is missing.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    runtime = server.interpreter.runtime
    request = compose_request(tree, operations, runtime=runtime, sequence_limit_s=sequence_limit_s)
    report = server.run_limited(request, limit_s=limit_s)
    found: dict[int, Results] = {}
    for line in report.output.split("\n")[:-1]:
        try:
            number, results = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            break  # whoever writes this writes no results
        if type(number) is not int or number in found or type(results) is not list:
            break
        found[number] = results
    return found


def compose_request(
    tree: Files,
    operations: Mapping[int, tuple[JsonValue, ...]],
    *,
    runtime: Runtime,
    sequence_limit_s: float = SEQUENCE_LIMIT_S,
) -> dict[str, Any]:
    """Return what asks the sandbox to do sequences on a tree, in this order."""
    return {
        "kind": "replay",
        "files": tree,
        "sequences": [[number, each] for number, each in operations.items()],
        "limit_s": sequence_limit_s,
        "paths": [".", *runtime.paths],
        "environment": dict(runtime.environment),
        "output_bytes": MAX_OUTPUT_BYTES,
    }


def is_same(found: JsonValue, expected: JsonValue) -> bool:
    """Tell whether a result is the expected one; further public attributes may be there.

    Neither may be nested deeper than Python's recursion allows, which JSON does not read either.
    """
    if type(found) is not type(expected):
        return False
    if not isinstance(expected, list):
        return bool(found == expected)
    if not found or len(found) != len(expected) or found[0] != expected[0]:
        return False
    kind = expected[0]
    if kind == "f":
        return found == expected or _is_near(found[1], expected[1])
    if kind in ("l", "t", "s", "z"):
        return _are_same(found[1], expected[1])
    if kind == "d":
        return len(found[1]) == len(expected[1]) and all(map(_are_same, found[1], expected[1]))
    if kind == "g":
        return bool(found[2] == expected[2]) and _are_same(found[1], expected[1])
    if kind == "v":
        given, wanted = dict(map(tuple, found[2])), dict(map(tuple, expected[2]))
        return (
            bool(found[1] == expected[1])
            and is_same(found[3], expected[3])
            and all(name in given and is_same(given[name], each) for name, each in wanted.items())
        )
    return bool(found == expected)


def _are_same(found: JsonValue, expected: JsonValue) -> bool:
    return len(found) == len(expected) and all(map(is_same, found, expected))


def _is_near(found: JsonValue, expected: str) -> bool:
    near = {"rel_tol": TOLERANCE, "abs_tol": TOLERANCE}
    try:
        return math.isclose(float(found), float(expected), **near)
    except (TypeError, ValueError):
        return False


def find_first(found: Results, expected: Results) -> int | None:
    """Return the position of the first operation that does not do as expected, None if all do.

    `found` is a candidate's to write, in any form.
    """
    for at, wanted in enumerate(expected):
        try:
            if not _does_as(found[at], wanted):
                return at
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            return at
    return None if len(found) == len(expected) else len(expected) - 1


def _does_as(found: JsonValue, expected: JsonValue) -> bool:
    """Compare what one operation gave: its result, and what became of its arguments."""
    is_done = not isinstance(expected[1], str)
    return (
        len(found) == len(expected)
        and is_same(found[0], expected[0])
        and (_are_same(found[1], expected[1]) if is_done else found[1] == expected[1])
    )


def _name(operations: tuple[JsonValue, ...], at: int) -> str:
    """Return the callable of an operation in words: what is sent is no secret, answers are."""
    _, _, target, name, *_ = operations[min(at, len(operations) - 1)]
    reference = target[1] if isinstance(target, list) and target[0] == "r" else ""
    return f"{reference}.{name}".strip(".") or "a call"
