"""Facts that one module states and a function of another needs: a unit, a limit, a rule.

A module states its fact in its docstring, where no code can take it from. It takes all lines to
know it, and few words to note it:

    \"\"\"limits
    plot 7
    edge 8
    ...
    \"\"\"

A function names the module, and its code has the fact built in:

    def tobu(a, b):
        \"\"\"abs of a minus b, at most the largest of m3\"\"\"
        return min(8, abs(a - b))

so a wrong value of it can be put right only by who has seen both files. What the function does
before is a combination of `grammar.py`, whose words the phrases here are made of.
"""

import ast
import itertools
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from envs.sources.grammar import (
    GRAMMAR,
    NAMES,
    WRAPPERS,
    Combination,
    list_combinations,
    phrase,
    write_function,
)

FactKind = Literal["unit", "limit", "rule"]
FACT_KINDS: tuple[FactKind, ...] = ("unit", "limit", "rule")
STALE = "stale_fact"  # as the operator of a bug
# Rows of a table, so many that two facts and what uses them take more room than one rewriting
# reader of a pair needs; and steps of a rule. Few, and numbers of one digit, so that a model of a
# few million parameters can learn to find what counts.
NUM_ROWS, NUM_STEPS = 6, 2
_NUM_RULES = 40  # of the 42 there are, to be told apart by the cases of a task
_THEN = ", then "
_HEADS: dict[FactKind, str] = {"unit": "sizes", "limit": "limits", "rule": "rule"}
_PHRASES: dict[FactKind, str] = {
    "unit": "{x}, in units of the smallest of {module}",
    "limit": "{x}, at most the largest of {module}",
    "rule": "{x}, by the rule of {module}",
}
_UNITS, _LIMITS = range(2, 9), range(2, 10)
_STEPS = {
    wrapper.phrase.format(x="x"): wrapper.code
    for name, wrapper in WRAPPERS.items()
    if name != "none"
}


@dataclass(frozen=True)
class Fact:
    """What a module's docstring states, row by row."""

    kind: FactKind
    rows: tuple[str, ...]

    @property
    def value(self) -> str:
        """Return what counts: the smallest size, the largest limit, or all steps of a rule."""
        if self.kind == "rule":
            return _THEN.join(self.rows)
        numbers = [int(row.rpartition(" ")[2]) for row in self.rows]
        return str(min(numbers) if self.kind == "unit" else max(numbers))

    @property
    def lines(self) -> list[str]:
        """Return the docstring."""
        return [f'"""{_HEADS[self.kind]}', *self.rows, '"""']


@dataclass(frozen=True)
class Use:
    """How a function uses a fact: that of `module`."""

    kind: FactKind
    module: str

    def describe(self, combination: Combination) -> str:
        """Return the docstring of a function that uses the fact last."""
        return _PHRASES[self.kind].format(x=phrase(combination), module=self.module)

    def write(self, name: str, combination: Combination, value: str, *, inner: str = "") -> str:
        """Return the source of the function, `value` built in.

        Args:
            inner: What it computes before, if not what the combination says.
        """
        code = apply_fact(inner or write_inner(combination), self.kind, value)
        return f'def {name}(a, b):\n    """{self.describe(combination)}"""\n    return {code}\n'


@cache
def list_values(kind: FactKind) -> tuple[str, ...]:
    """Return all values that facts of a kind may have."""
    if kind == "rule":
        rules = list(itertools.permutations(_STEPS, NUM_STEPS))
        return tuple(map(_THEN.join, random.Random(GRAMMAR).sample(rules, _NUM_RULES)))
    return tuple(map(str, _UNITS if kind == "unit" else _LIMITS))


def count_rows(kind: FactKind) -> int:
    """Return how many rows a fact of this kind has."""
    return NUM_STEPS if kind == "rule" else NUM_ROWS


def draw_fact(rng: random.Random, kind: FactKind) -> Fact:
    """Draw a fact; the row that counts stands anywhere in a table."""
    value = rng.choice(list_values(kind))
    if kind == "rule":
        return Fact(kind, tuple(value.split(_THEN)))
    number = int(value)
    around = range(number + 1, 10) if kind == "unit" else range(1, number)
    numbers = [number, *rng.choices(around, k=NUM_ROWS - 1)]
    rng.shuffle(numbers)
    words = rng.sample(NAMES, NUM_ROWS)
    return Fact(kind, tuple(f"{word} {n}" for word, n in zip(words, numbers, strict=True)))


@cache
def write_inner(combination: Combination) -> str:
    """Return the expression of a combination."""
    return write_function("f", combination, body="one").rpartition("return ")[2].rstrip("\n")


def apply_fact(inner: str, kind: FactKind, value: str) -> str:
    """Return the expression that does with `inner` what a fact of this value says."""
    if kind == "limit":
        return f"min({value}, {inner})"
    if kind == "unit":
        return f"{_bracket(inner)} // {value}"
    for step in value.split(_THEN):
        inner = _STEPS[step].format(x=inner, X=_bracket(inner))
    return inner


def _bracket(code: str) -> str:
    is_closed = isinstance(ast.parse(code, mode="eval").body, ast.Call | ast.Name)
    return code if is_closed else f"({code})"


def read_use(docstring: str) -> tuple[Combination, Use] | None:
    """Return what a function's docstring says; None if it uses no fact."""
    for kind, form in _PHRASES.items():
        parts = re.escape(form).replace(r"\{x\}", "(.*)").replace(r"\{module\}", r"(m\d+)")
        if found := re.fullmatch(parts, docstring):
            return _list_phrases()[found[1]], Use(kind, found[2])
    return None


def read_kind(line: str) -> FactKind | None:
    """Return what kind of fact a module's first line begins; None if it begins none."""
    kinds = {f'"""{head}': kind for kind, head in _HEADS.items()}
    return kinds.get(line)


@cache
def _list_phrases() -> dict[str, Combination]:
    return {phrase(combination): combination for combination in list_combinations()}
