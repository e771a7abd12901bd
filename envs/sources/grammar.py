"""The grammar of generated functions: wrapper x operation x operands, a phrase for each piece.

A combination such as ("abs", "minus", "a b") reads

    def tobu(a, b):
        \"\"\"abs of a minus b\"\"\"
        return abs(a - b)

and the docstring fixes the meaning (the wrapper is always outermost), so a bug can be repaired from
the text alone. Text is short and regular on purpose: a model of 3M parameters with 1k tokens has
to learn it from scratch. Splits are by combination and belong to the grammar, not to a seed: a
combination held out here is held out everywhere.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from envs.records import Split

GRAMMAR = "synthetic/1"
INPUTS = tuple(range(-9, 10))  # both arguments of every case are drawn from here
_SHARES: dict[Split, float] = {"train": 0.7, "dev": 0.1, "test": 0.2}  # of the meanings

Body = Literal["one", "two"]


@dataclass(frozen=True)
class Wrapper:
    """An outer function of one value; in `code` {x} is the bare operand, {X} the bracketed one."""

    phrase: str
    code: str


@dataclass(frozen=True)
class Operation:
    """A function of two values."""

    phrase: str
    code: str
    is_call: bool
    is_commutative: bool


WRAPPERS: dict[str, Wrapper] = {
    "none": Wrapper("{x}", "{x}"),
    "abs": Wrapper("abs of {x}", "abs({x})"),
    "neg": Wrapper("minus {x}", "-{X}"),
    "more": Wrapper("1 more than {x}", "{X} + 1"),
    "twice": Wrapper("twice {x}", "2 * {X}"),
    "floor": Wrapper("larger of 0 and {x}", "max(0, {x})"),
    "cap": Wrapper("smaller of 9 and {x}", "min(9, {x})"),
    "square": Wrapper("square of {x}", "{X} ** 2"),
}
OPERATIONS: dict[str, Operation] = {
    "plus": Operation("{x} plus {y}", "{x} + {y}", False, True),
    "minus": Operation("{x} minus {y}", "{x} - {y}", False, False),
    "times": Operation("{x} times {y}", "{x} * {y}", False, True),
    "larger": Operation("larger of {x} and {y}", "max({x}, {y})", True, True),
    "smaller": Operation("smaller of {x} and {y}", "min({x}, {y})", True, True),
    "mod": Operation("{x} mod {y}", "{x} % {y}", False, False),
}
OPERANDS: dict[str, tuple[str, str]] = {
    "a b": ("a", "b"),
    "b a": ("b", "a"),
    "a 2": ("a", "2"),
    "b 2": ("b", "2"),
    "a 5": ("a", "5"),
}
_WORDS = """
    apply boost carry check clean count cross depth drift edge fetch find float force gain
    grade group guide hold inset judge label lease link loop meter mount note pack pause
    plot pulse rate route score shift sort stage sweep tilt
"""
NAMES = tuple(_WORDS.split())  # they say nothing; so few that a tiny model learns to copy each


@dataclass(frozen=True, order=True)
class Combination:
    """Names of a wrapper, an operation and operands."""

    wrapper: str
    operation: str
    operands: str

    @property
    def meaning(self) -> tuple[str, str, str]:
        """Return a key that does not tell `a plus b` from `b plus a`."""
        if OPERATIONS[self.operation].is_commutative:
            return self.wrapper, self.operation, " ".join(sorted(self.operands.split()))
        return self.wrapper, self.operation, self.operands


@cache
def list_combinations() -> tuple[Combination, ...]:
    """Return all combinations in a fixed order."""
    return tuple(
        Combination(wrapper, operation, operands)
        for wrapper in WRAPPERS
        for operation in OPERATIONS
        for operands in OPERANDS
    )


@cache
def list_split_combinations(split: Split) -> tuple[Combination, ...]:
    """Return the combinations of a split; those with one meaning lie together."""
    meanings = sorted({combination.meaning for combination in list_combinations()})
    random.Random(GRAMMAR).shuffle(meanings)
    first = round(_SHARES["train"] * len(meanings))
    second = round((_SHARES["train"] + _SHARES["dev"]) * len(meanings))
    bounds: dict[Split, slice] = {
        "train": slice(0, first),
        "dev": slice(first, second),
        "test": slice(second, None),
    }
    chosen = set(meanings[bounds[split]])
    return tuple(c for c in list_combinations() if c.meaning in chosen)


def list_names(count: int) -> list[str]:
    """Return at least `count` names: the words, then the words with a number."""
    rounds = range(-(-count // len(NAMES)))
    return [f"{word}{turn or ''}" for turn in rounds for word in NAMES]


def draw_combinations(rng: random.Random, count: int, *, split: Split) -> list[Combination]:
    """Draw different combinations as long as there are any; a held-out split also shows train's."""
    own, train = list_split_combinations(split), list_split_combinations("train")
    drawn = dict.fromkeys(rng.sample(own, min(2, count)))
    limit = min(count, len(own))
    while len(drawn) < limit:
        pool = own if split == "train" or rng.random() < 0.5 else train
        drawn[rng.choice(pool)] = None
    chosen = list(drawn) + rng.choices(own, k=count - limit)
    rng.shuffle(chosen)
    return chosen


def phrase(combination: Combination) -> str:
    """Return the docstring that fixes the meaning of a combination."""
    x, y = OPERANDS[combination.operands]
    inner = OPERATIONS[combination.operation].phrase.format(x=x, y=y)
    return WRAPPERS[combination.wrapper].phrase.format(x=inner)


def write_function(name: str, combination: Combination, *, body: Body) -> str:
    """Return the source of a function whose body has one line, or two: operation, then wrapper."""
    x, y = OPERANDS[combination.operands]
    operation = OPERATIONS[combination.operation]
    inner, template = operation.code.format(x=x, y=y), WRAPPERS[combination.wrapper].code
    lines = [f"def {name}(a, b):", f'    """{phrase(combination)}"""']
    if body == "two":
        lines += [f"    x = {inner}", f"    return {template.format(x='x', X='x')}"]
    else:
        bracketed = inner if operation.is_call else f"({inner})"
        lines += [f"    return {template.format(x=inner, X=bracketed)}"]
    return "\n".join(lines) + "\n"


def load_function(source: str) -> Callable[[int, int], object]:
    """Run the source of one generated function and return it; never for text that a model wrote."""
    namespace: dict[str, Callable[[int, int], object]] = {}
    exec(source, namespace)  # trusted: grammar output or one operator's mutation of it
    namespace.pop("__builtins__", None)
    (function,) = namespace.values()
    return function
