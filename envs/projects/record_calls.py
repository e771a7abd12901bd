"""Recorded calls of a project: what its suite asks of it, and those that tell a bug.

Once for each project the unchanged suite runs with a recorder. The operations of a test that share
objects are one sequence. Of single calls with plain arguments, others are made with changed
arguments where the project then returns. A sequence is kept if the unchanged project gives the same
for it five times: in five orders, with three hash seeds, each time in a new folder.

Of these a task takes some that tell its bug, some that enter the functions that are broken, and a
few of the others.
"""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envs.files import hash_text, write_whole
from envs.grading.recorded_calls import (
    SEQUENCE_LIMIT_S,
    RecordedCalls,
    RecordedSequence,
    arrange,
    find_first,
    leave_out,
    replay,
)
from envs.grading.test_suite import run_suite
from envs.mutation.bug import Bug
from envs.records import JsonValue, Record
from envs.sandbox.fork_server import ForkServer
from envs.syntax import find_innermost, first_line, parse_shared
from envs.tasks.code_key import CHILD, code_key
from envs.tasks.store import Files, hash_tree

Operation = list[Any]  # number, kind, target, name, arguments, named arguments, mode
MAX_OPERATIONS = 40  # of a sequence; those after them are cut off
MAX_SEQUENCES = 4_000  # of a project
MAX_VARIED = 1_000  # further ones with changed arguments
RECORDING_SLOWDOWN = 12  # recording took 3 to 6 times the CPU time of 37 suites
REPLAY_LIMIT_S = 60.0  # CPU seconds of all sequences of a project; the slowest of 37 took 1
NUM_RUNS = 5
HASH_SEEDS = (1, 2)  # of two of them; a server's own is 0
MAX_TELLING = 40  # sequences of a task that tell one of its bugs
MAX_ENTERING = 80  # others that enter a broken function
MAX_OTHERS = 30
_CHANGED = 3  # changed argument lists tried for a call
_TRIES = 3  # of leaving out of a task's sequences what depends on others


@dataclass(frozen=True)
class Recording:
    """What was recorded of a project.

    Attributes:
        calls: The sequences that always give the same.
        entered: Of each the functions that it enters, as 'path:first line'.
    """

    calls: RecordedCalls
    entered: Mapping[int, frozenset[str]]


class _Kept(Record):
    """What the cache keeps; `key` names all that it depends on."""

    key: str
    calls: RecordedCalls
    entered: dict[int, tuple[str, ...]]


def record_calls(
    files: Files,
    *,
    tests: Sequence[str],
    suite: Collection[str],
    limit_s: float,
    server: ForkServer,
    path: Path,
) -> Recording:
    """Return the calls of a project's suite, recorded unless they are in the cache.

    Args:
        files: The unchanged tree.
        tests: Ids of its stable tests.
        suite: Its test files and what belongs to them.
        limit_s: Seconds that one run of the suite may compute.
        server: Has pytest preloaded; hash seed 0.
        path: Where it is kept.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    made_by = [*server.interpreter.versions, code_key(__name__, CHILD), hash_tree(files)]
    made_by += [server.interpreter.runtime.model_dump_json(), *sorted(suite), *tests]
    key = hash_text(json.dumps(made_by))
    try:
        kept = _Kept.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        kept = None
    if kept is None or kept.key != key:
        kept = _record(files, tests=tests, suite=suite, limit_s=limit_s, server=server, key=key)
        write_whole(path, kept.model_dump_json())
    entered = {number: frozenset(places) for number, places in kept.entered.items()}
    return Recording(kept.calls, entered)


def _record(
    files: Files,
    *,
    tests: Sequence[str],
    suite: Collection[str],
    limit_s: float,
    server: ForkServer,
    key: str,
) -> _Kept:
    own = [path for path in files if path.endswith(".py") and path not in suite]
    run = run_suite(server, files, ids=tests, limit_s=RECORDING_SLOWDOWN * limit_s, record=own)
    sequences = make_sequences(run.calls)[:MAX_SEQUENCES]
    operations = {number: operations for number, (operations, _) in enumerate(sequences)}
    entered = {number: places for number, (_, places) in enumerate(sequences)}
    bare = leave_out(files, suite)
    first = _replay_gold(server, bare, operations, draw=0)
    for number, varied in _vary(operations, first):
        entered[len(operations)] = entered[number]
        operations[len(operations)] = varied
    draws = iter(range(1, NUM_RUNS + 1))
    runs = [
        _replay_gold(server, bare, operations, draw=next(draws))
        for _ in range(NUM_RUNS - len(HASH_SEEDS))
    ]
    runtime = server.interpreter
    for hash_seed in HASH_SEEDS:
        with ForkServer(preload="pytest", hash_seed=hash_seed, interpreter=runtime) as other:
            runs.append(_replay_gold(other, bare, operations, draw=next(draws)))
    found = {
        number: RecordedSequence(operations=tuple(operations[number]), expected=expected)
        for number, expected in sorted(runs[0].items())
        if all(run.get(number) == expected for run in runs)
        and _says_anything(expected)
        and _is_text([operations[number], expected])
        and (number < len(sequences) or not _raises(expected))
    }
    return _Kept(
        key=key,
        calls=RecordedCalls(suite=tuple(sorted(suite)), sequences=found),
        entered={number: tuple(sorted(entered[number])) for number in found},
    )


def _replay_gold(
    server: ForkServer,
    bare: Files,
    operations: Mapping[int, tuple[JsonValue, ...]],
    *,
    draw: int,
) -> dict[int, list[Any]]:
    return replay(
        server,
        bare,
        {number: operations[number] for number in arrange(operations, draw=draw)},
        limit_s=REPLAY_LIMIT_S,
        sequence_limit_s=SEQUENCE_LIMIT_S / 5,  # a machine that grades may be slower
    )


def choose_sequences(
    bug: Bug, *, recording: Recording, files: Files, server: ForkServer
) -> tuple[int, ...]:
    """Return the sequences that grade a bug's task; none if none of them tells each mutation.

    What gives otherwise among these few than among all, with the unchanged project, is left out.

    Args:
        bug: Of one mutation or several.
        files: The unchanged tree.
        server: Has what the project needs.

    Raises:
        InfrastructureError: The sandbox failed.
    """
    draw = random.Random(repr([(one.path, one.line, one.operator) for one in bug.mutations]))
    calls, chosen, told = recording.calls, dict[int, None](), list[list[int]]()
    broken = {place for one in bug.mutations for place in _find_places(one.path, one.line, files)}
    entering = [number for number in calls.sequences if broken & recording.entered[number]]
    entering = entering if entering else list(calls.sequences)
    for one in bug.mutations:
        alone = Bug((one,))
        telling = _find_differing(files | alone.apply(files), entering, calls, server)
        draw.shuffle(telling)
        told.append(telling[: MAX_TELLING // len(bug.mutations)])
        chosen |= dict.fromkeys(told[-1])
    if not all(told):
        return ()
    others = [number for number in calls.sequences if number not in entering]
    for group, most in ((entering, MAX_ENTERING), (others, MAX_OTHERS)):
        group = [number for number in group if number not in chosen]
        chosen |= dict.fromkeys(draw.sample(group, min(most, len(group))))
    for _ in range(_TRIES):
        differing = _find_differing(files, chosen, calls, server)
        if not differing:
            return tuple(sorted(chosen))
        chosen = dict.fromkeys(number for number in chosen if number not in differing)
        if any(chosen.keys().isdisjoint(telling) for telling in told):
            break
    return ()


def _find_differing(
    tree: Files, numbers: Collection[int], calls: RecordedCalls, server: ForkServer
) -> list[int]:
    """Return the sequences that give otherwise than expected on a tree."""
    operations = {number: calls.sequences[number].operations for number in arrange(numbers)}
    bare = leave_out(tree, calls.suite)
    found = replay(server, bare, operations, limit_s=REPLAY_LIMIT_S)
    return [
        number
        for number in numbers
        if number not in found
        or find_first(found[number], calls.sequences[number].expected) is not None
    ]


def _find_places(path: str, line: int, files: Files) -> list[str]:
    """Return the function that holds a line, as the recorder names it."""
    function = find_innermost(parse_shared(files[path]), line, line)
    return [f"{path}:{first_line(function)}"] if function else []


def make_sequences(
    calls: Iterable[tuple[str, str]],
) -> list[tuple[tuple[JsonValue, ...], frozenset[str]]]:
    """Return the sequences of a recording, each once, with the functions that they enter.

    Args:
        calls: Of each operation the test that made it, '' for none, and its JSON.
    """
    of_test: dict[str, list[int]] = defaultdict(list)
    by_number: dict[int, Operation] = {}
    places: dict[int, list[str]] = {}
    for test, text in calls:
        *operation, entered = json.loads(text)
        of_test[test].append(operation[0])
        by_number[operation[0]], places[operation[0]] = operation, entered
    found: dict[str, tuple[tuple[JsonValue, ...], frozenset[str]]] = {}
    for numbers in of_test.values():
        for joined in _join(numbers, by_number):
            chosen = joined[:MAX_OPERATIONS]
            renamed = {old: new for new, old in enumerate(chosen)}
            written = tuple(_renumber(by_number[number], renamed) for number in chosen)
            entered = frozenset().union(*(places[number] for number in chosen))
            found.setdefault(hash_text(json.dumps(written)), (written, entered))
    return list(found.values())


def _join(numbers: Sequence[int], by_number: Mapping[int, Operation]) -> list[list[int]]:
    """Return groups of operations that share objects, with those that made the objects."""
    group_of: dict[int, set[int]] = {}
    for number in numbers:
        mine, waiting = {number}, [number]
        while waiting:
            for maker in _find_makers(by_number[waiting.pop()]):
                if maker in by_number and maker not in mine:
                    mine.add(maker)
                    waiting.append(maker)
        for each in list(mine):
            mine |= group_of.get(each, set())
        group_of |= dict.fromkeys(mine, mine)
    return [sorted(group) for group in {id(group): group for group in group_of.values()}.values()]


def _find_makers(operation: Operation) -> list[int]:
    """Return the operations whose objects an operation uses."""
    found: list[int] = []

    def note(node: JsonValue) -> JsonValue:
        found.append(node[1])
        return node

    _map_operation(operation, note)
    return found


def _renumber(operation: Operation, numbers: Mapping[int, int]) -> Operation:
    changed = _map_operation(operation, lambda node: ["h", numbers[node[1]], node[2]])
    return [numbers[operation[0]], *changed[1:]]


def _map_operation(operation: Operation, change: Callable[[JsonValue], JsonValue]) -> Operation:
    """Return an operation with every node of what another one made changed."""
    number, kind, target, name, arguments, named, mode = operation
    return [
        number,
        kind,
        _map(target, change),
        name,
        [_map(each, change) for each in arguments],
        {key: _map(each, change) for key, each in named.items()},
        mode,
    ]


def _map(node: JsonValue, change: Callable[[JsonValue], JsonValue]) -> JsonValue:
    if not isinstance(node, list):
        return node

    def each_of(nodes: list[JsonValue]) -> list[JsonValue]:
        return [_map(each, change) for each in nodes]

    kind = node[0]
    if kind == "h":
        return change(node)
    if kind in ("l", "t", "s", "z"):
        return [kind, each_of(node[1])]
    if kind == "d":
        return ["d", [each_of(pair) for pair in node[1]]]
    if kind == "m":
        return ["m", _map(node[1], change), node[2]]
    if kind == "k":
        used = {name: _map(each, change) for name, each in node[2].items()}
        return ["k", node[1], used, each_of(node[3]), each_of(node[4])]
    if kind == "x":
        maker, arguments, state, items, pairs = node[1:]
        made = [_map(maker, change), each_of(arguments), _map(state, change)]
        return ["x", *made, each_of(items), [each_of(pair) for pair in pairs]]
    return node


def _is_text(data: JsonValue) -> bool:
    """Tell whether UTF-8 can hold all strings, names of arguments included."""
    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _says_anything(results: list[Any]) -> bool:
    """Tell whether a sequence gives more than that nothing could be done."""
    return any(not isinstance(result[1], str) for result in results)


def _raises(results: list[Any]) -> bool:
    return any(isinstance(result[0], list) and result[0][:1] == ["e"] for result in results)


def _vary(
    operations: Mapping[int, tuple[JsonValue, ...]], results: Mapping[int, list[Any]]
) -> list[tuple[int, tuple[JsonValue, ...]]]:
    """Return single calls with changed arguments, and the number of the call that each is of."""
    draw, found = random.Random(0), list[tuple[int, tuple[JsonValue, ...]]]()
    seen = {json.dumps(each) for each in operations.values()}
    for number, sequence in operations.items():
        if len(sequence) != 1 or number not in results or _raises(results[number]):
            continue
        ((zero, kind, target, name, arguments, named, mode),) = sequence
        for _ in range(_CHANGED):
            changed = [_vary_value(each, draw) for each in arguments]
            varied = ([zero, kind, target, name, changed, named, mode],)
            text = json.dumps(varied)
            if text not in seen:
                seen.add(text)
                found.append((number, varied))
    return draw.sample(found, min(MAX_VARIED, len(found)))


def _vary_value(node: JsonValue, draw: random.Random) -> JsonValue:
    """Return another plain value of the same type, or the same one."""
    if type(node) is bool or node is None:
        return node
    if type(node) is int:
        return draw.choice([node, node + 1, node - 1, 2 * node])
    if isinstance(node, str):
        half = len(node) // 2
        return draw.choice([node, node[:half], node[half:], node + node[:1], node.swapcase()])
    if isinstance(node, list) and node[0] == "f":
        return ["f", repr(draw.choice([1.0, 0.5, -1.0]) * float(node[1]))]
    if isinstance(node, list) and node[0] in ("l", "t"):
        items = node[1]
        shorter = items[: len(items) // 2]
        changed = [_vary_value(each, draw) for each in items]
        return [node[0], draw.choice([items, changed, items[::-1], shorter])]
    return node
