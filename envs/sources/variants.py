"""What a generated function and each of its mutations do on all inputs, computed once each.

Text from the grammar, or one operator's mutation of it, is run here, in the trusted process that
builds tasks; nothing that a model wrote ever comes this way.

Tests: tests/envs/sources/test_synthetic.py.
"""

from dataclasses import dataclass
from functools import cache

from envs.mutation.operators import SYNTHETIC_OPERATORS, apply, list_mutations
from envs.source_text import source_lines
from envs.sources.grammar import INPUTS, Body, Combination, load_function, write_function

Inputs = tuple[int, int]


@dataclass(frozen=True)
class Raised:
    """What a function did instead of returning a value: the name of its exception."""

    error: str


@dataclass(frozen=True)
class Variant:
    """A mutated function called `f`.

    Attributes:
        operator: Name of the mutation operator.
        lines: Its source.
        values: What it does on every input.
        changed: Inputs on which it is wrong, by type or value.
    """

    operator: str
    lines: tuple[str, ...]
    values: dict[Inputs, object]
    changed: tuple[Inputs, ...]


@cache
def compute_gold_values(combination: Combination, body: Body) -> dict[Inputs, object]:
    """Return the right value for each input that has one (a division by zero has none)."""
    values = compute_values(write_function("f", combination, body=body))
    return {args: value for args, value in values.items() if not isinstance(value, Raised)}


@cache
def list_variants(combination: Combination, body: Body) -> tuple[Variant, ...]:
    """Return the mutations by eight operators, in the fixed order of `list_mutations`."""
    source = write_function("f", combination, body=body)
    gold, found = compute_gold_values(combination, body), []
    for mutation in list_mutations(source, operators=SYNTHETIC_OPERATORS):
        mutated = apply(source, mutation)
        values = compute_values(mutated)
        changed = tuple(args for args, value in gold.items() if is_wrong(values[args], value))
        lines = tuple(source_lines(mutated))
        found.append(Variant(mutation.operator, lines, values, changed))
    return tuple(found)


def is_wrong(found: object, expected: object) -> bool:
    """Tell whether two results differ, by type or value."""
    return type(found) is not type(expected) or found != expected


def compute_values(source: str) -> dict[Inputs, object]:
    """Return what a function does on every input; never for text that a model wrote."""
    function = load_function(source)
    values: dict[Inputs, object] = {}
    for a in INPUTS:
        for b in INPUTS:
            try:
                values[a, b] = function(a, b)
            except (ArithmeticError, TypeError) as error:
                values[a, b] = Raised(type(error).__name__)
    return values
