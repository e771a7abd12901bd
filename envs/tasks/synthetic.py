"""Unlimited generated repair tasks: small repositories of the grammar in `families`, one or two of their lines broken.

Task `index` of a split depends on nothing but (seed, split, index), so the same seed gives the same bytes and
a longer run only appends. Tasks are graded by the io grader: expected values are computed here, from the
unbroken source, and never leave the private half but for the cases that the statement shows.

    for built in generate(1000, split="train", seed=0):
        print(built.public.statement)
"""

import difflib
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from envs.records import (
    Difficulty,
    Edit,
    HiddenTask,
    IoCase,
    Provenance,
    RepairTask,
    Span,
    Split,
)
from envs.grading import encode_value
from envs.tasks.families import (
    GRAMMAR,
    INPUTS,
    SYLLABLES,
    Body,
    Combination,
    function_source,
    load_function,
    split_combinations,
)
from envs.tasks.mutate import apply, sites
from envs.tasks.store import BuiltTask, Files, content_sha

LICENCE = "Apache-2.0"
_Inputs = tuple[int, int]


@dataclass(frozen=True)
class SyntheticSettings:
    """Sizes and shares of generated tasks.

    Attributes:
        num_modules: Fewest and most modules of a task (1 to 4).
        num_functions: Fewest and most functions of a module; all but the broken ones are distractors.
        share_two_sites: Share of tasks with two bugs, in different functions.
        share_two_lines: Share of functions whose body has two lines.
        num_hidden: Unseen cases for each broken function.
        min_changed: Least share of all inputs on which a bug must show.
    """

    num_modules: tuple[int, int] = (1, 3)
    num_functions: tuple[int, int] = (2, 5)
    share_two_sites: float = 0.4
    share_two_lines: float = 0.25
    num_hidden: int = 4
    min_changed: float = 0.15


@dataclass(frozen=True)
class _Function:
    """One function of a task; `line` is that of its `def`, 1-based."""

    path: str
    name: str
    line: int
    combination: Combination
    body: Body

    @property
    def id(self) -> str:
        return f"{self.path.removesuffix('.py')}:{self.name}"


@dataclass(frozen=True)
class _Variant:
    """A mutated function: its lines, what it returns on all inputs, and the inputs on which it is wrong."""

    operator: str
    lines: tuple[str, ...]
    values: dict[_Inputs, str]
    changed: tuple[_Inputs, ...]


@dataclass(frozen=True)
class _Drawn:
    """A case before it has an id."""

    function: _Function
    args: _Inputs
    expected: str
    fails: bool
    is_visible: bool


def generate(
    num_tasks: int,
    *,
    split: Split,
    seed: int,
    settings: SyntheticSettings = SyntheticSettings(),
    start: int = 0,
) -> Iterator[BuiltTask]:
    """Yield tasks `start` to `start + num_tasks - 1` of a split."""
    for index in range(start, start + num_tasks):
        yield generate_one(index, split=split, seed=seed, settings=settings)


def generate_one(
    index: int, *, split: Split, seed: int, settings: SyntheticSettings = SyntheticSettings()
) -> BuiltTask:
    """Return one task; it depends on its arguments only."""
    name = f"{GRAMMAR}:{seed}:{split}:{index}"
    rng = random.Random(name)
    functions = _draw_functions(rng, split=split, settings=settings)
    num_sites = 2 if len(functions) > 1 and rng.random() < settings.share_two_sites else 1
    broken = _draw_broken(rng, functions, num_sites, split=split, settings=settings)
    return _assemble(
        functions,
        broken,
        _draw_cases(rng, functions, broken, num_hidden=settings.num_hidden),
        task_id="t_" + hashlib.sha256(name.encode()).hexdigest()[:12],
        split=split,
        seed=seed,
    )


def _draw_functions(
    rng: random.Random, *, split: Split, settings: SyntheticSettings
) -> list[_Function]:
    """Draw modules of functions; a held-out split mixes its own combinations with those of train."""
    pool = list(split_combinations(split))
    if split != "train":
        pool += rng.sample(split_combinations("train"), len(pool))
    sizes = [rng.randint(*settings.num_functions) for _ in range(rng.randint(*settings.num_modules))]
    own = split_combinations(split)
    first = rng.sample(own, min(2, sum(sizes)))
    others = rng.sample([c for c in pool if c not in first], sum(sizes) - len(first))
    drawn = first + others
    rng.shuffle(drawn)
    names = _draw_names(rng, len(drawn))
    functions: list[_Function] = []
    for module, size in enumerate(sizes):
        line = 1
        for _ in range(size):
            at = len(functions)
            body: Body = "one"
            if drawn[at].wrapper != "none" and rng.random() < settings.share_two_lines:
                body = "two"
            functions.append(_Function(f"m{module}.py", names[at], line, drawn[at], body))
            line += (3 if body == "one" else 4) + 1
    return functions


def _draw_names(rng: random.Random, count: int) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < count:
        names[rng.choice(SYLLABLES) + rng.choice(SYLLABLES)] = None
    return list(names)


def _draw_broken(
    rng: random.Random,
    functions: list[_Function],
    num_sites: int,
    *,
    split: Split,
    settings: SyntheticSettings,
) -> dict[str, _Variant]:
    """Choose the functions to break, in different modules where there are two, and their bugs."""
    own = set(split_combinations(split))
    candidates = [
        function
        for function in functions
        if function.combination in own
        and any(_is_visible_enough(v, settings) for v in _variants(function.combination, function.body))
    ]
    rng.shuffle(candidates)
    chosen = candidates[:1]
    if num_sites == 2:
        rest = sorted(candidates[1:], key=lambda function: function.path == chosen[0].path)
        chosen += rest[:1]
    broken = {}
    for function in chosen:
        by_operator: dict[str, list[_Variant]] = {}
        for variant in _variants(function.combination, function.body):
            if _is_visible_enough(variant, settings):
                by_operator.setdefault(variant.operator, []).append(variant)
        broken[function.id] = rng.choice(by_operator[rng.choice(sorted(by_operator))])
    return broken
