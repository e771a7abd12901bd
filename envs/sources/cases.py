"""Cases of generated tasks, and the task that is made of them.

A case is one call with what it should give and what the broken workspace gives. Expected values
are computed in the trusted process that builds tasks and stay in the private half, but for those
of the visible cases. Tests: tests/envs/sources/test_synthetic.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from envs.records import IoCase, Provenance, Span, Split
from envs.sandbox.encoding import encode_value
from envs.sources.variants import Inputs, Raised, is_wrong
from envs.tasks.assemble import TaskFacts, assemble
from envs.tasks.store import BuiltTask, Files, hash_tree

LICENCE = "Apache-2.0"
LIMIT_S = 5.0  # of a grading


@dataclass(frozen=True)
class DrawnCase:
    """A case before it has an id.

    Attributes:
        path: The module of the function `name`.
        expected: What the call should return.
        found: What it does in the broken workspace.
        is_visible: The agent is told of it.
    """

    path: str
    name: str
    args: Inputs
    expected: object
    found: object
    is_visible: bool = False

    @property
    def fails(self) -> bool:
        """Tell whether it shows a bug."""
        return is_wrong(self.found, self.expected)


def assemble_cases(
    drawn: Sequence[DrawnCase],
    *,
    task_id: str,
    split: Split,
    seed: int,
    generator: str,
    gold: Files,
    workspace: Files,
    operators: tuple[str, ...],
    num_sites: int,
    gold_spans: tuple[Span, ...],
) -> BuiltTask:
    """Return the task of these cases; their order is to be drawn, so that it tells nothing."""
    cases = {f"c{number:02}": case for number, case in enumerate(drawn)}
    visible = tuple(name for name, case in cases.items() if case.is_visible)
    return assemble(
        TaskFacts(
            task_id=task_id,
            project="synthetic",
            split=split,
            provenance=Provenance(
                source="synthetic",
                origin=generator,
                licence=LICENCE,
                sha256=hash_tree(gold),
                generator=generator,
                seed=seed,
            ),
            statement="\n".join(_describe_symptom(cases[name]) for name in visible),
            workspace=workspace,
            repaired=gold,
            tests=tuple(cases),
            visible_tests=visible,
            failing={name for name, case in cases.items() if case.fails},
            operators=operators,
            limit_s=LIMIT_S,
            num_sites=num_sites,
            cases=tuple(_io_case(name, case) for name, case in cases.items()),
            gold_spans=gold_spans,
        )
    )


def _io_case(name: str, case: DrawnCase) -> IoCase:
    return IoCase(
        id=name,
        function=f"{case.path.removesuffix('.py')}:{case.name}",
        args=case.args,
        expected=encode_value(case.expected),
    )


def _describe_symptom(case: DrawnCase) -> str:
    """Say what a failing call did, never why: "m0.py: tobu(3, 5) returned -2, expected 2"."""
    error = case.found.error if isinstance(case.found, Raised) else None
    did = f"raised {error}" if error else f"returned {case.found!r}"
    return f"{case.path}: {case.name}{case.args} {did}, expected {case.expected!r}"
