"""Four bugs in four modules, each of which needs a fact from another one."""

from dataclasses import replace

from envs.environment import Limits
from envs.prompts import SYSTEM_SHORT
from envs.readers.play import Game
from envs.records import IoCase, Span, Split
from envs.sandbox.encoding import encode_value
from envs.tasks.assemble import TaskFacts, assemble
from envs.tasks.store import BuiltTask
from tests.envs.world import CHAT, TASK

NAMES = ("qax", "lum", "zor", "kip")
ARGUMENTS = ((90, 1), (70, 2), (50, 4))


def write(*, is_broken: bool) -> dict[str, str]:
    """Return the modules; a broken one counts in units of its own number."""
    return {
        f"m{n}.py": f'"""unit {n + 3}"""\n\n'
        f'def {name}(a, b):\n    """a minus b in units of m{(n + 1) % 4}"""\n'
        f"    return abs(a - b) // {n + 1 if is_broken else (n + 1) % 4 + 3}\n"
        for n, name in enumerate(NAMES)
    }


def build_long(split: Split = "train") -> BuiltTask:
    """Return the task."""
    cases = tuple(
        IoCase(
            id=f"c{n}{place}",
            function=f"m{n}:{name}",
            args=args,
            expected=encode_value(abs(args[0] - args[1]) // ((n + 1) % 4 + 3)),
        )
        for n, name in enumerate(NAMES)
        for place, args in enumerate(ARGUMENTS)
    )
    spans = (
        (Span(path=f"m{n}.py", start=3, end=5), Span(path=f"m{(n + 1) % 4}.py", start=1, end=1))
        for n in range(4)
    )
    return assemble(
        TaskFacts(
            task_id=f"long_{split}",
            project="world",
            split=split,
            provenance=TASK.provenance,
            statement="\n".join(f"m{n}.py: {name}(90, 1) is wrong" for n, name in enumerate(NAMES)),
            workspace=write(is_broken=True),
            repaired=write(is_broken=False),
            tests=tuple(case.id for case in cases),
            visible_tests=tuple(f"c{n}0" for n in range(4)),
            failing={case.id for case in cases},
            operators=("units",),
            limit_s=5.0,
            cases=cases,
            gold_spans=tuple(span for pair in spans for span in pair),
        )
    )


BUILT = build_long()
LONG, HIDDEN_LONG, FILES = BUILT.public, BUILT.hidden, BUILT.workspace
EDITS = HIDDEN_LONG.gold_edits
LIMITS = Limits(window_tokens=0, max_turns=40, max_new_tokens=48, observation_tokens=160)


def new_game(**limits: int) -> Game:
    """Return the task for readers."""
    return Game(LONG, HIDDEN_LONG, FILES, CHAT, SYSTEM_SHORT, replace(LIMITS, **limits))
