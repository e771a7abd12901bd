"""Unlimited generated repair tasks: small repositories of the grammar with one or two broken lines.

Task `index` of a split depends on nothing but (seed, split, index, settings), so the same seed
gives the same bytes and a longer run only appends. Tasks are graded by the io grader: expected
values are computed here, from the unbroken source, and stay in the private half but for the
visible cases.

    for built in generate(1000, split="train", seed=0):
        print(built.public.statement)
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from envs.files import hash_text
from envs.records import Span, Split
from envs.source_text import source_lines
from envs.sources.cases import DrawnCase, assemble_cases
from envs.sources.grammar import (
    GRAMMAR,
    Body,
    Combination,
    draw_combinations,
    list_names,
    list_split_combinations,
    write_function,
)
from envs.sources.long_tasks import LONG_GRAMMAR, generate_long
from envs.sources.variants import (
    Inputs,
    Variant,
    compute_gold_values,
    list_variants,
)
from envs.tasks.store import BuiltTask, Files


@dataclass(frozen=True)
class SyntheticSettings:
    """Sizes and shares of generated tasks.

    Attributes:
        num_modules: Fewest and most modules of a task (1 to 4).
        num_functions: Fewest and most functions of a module; the unbroken ones are distractors.
        share_two_sites: Share of tasks with two bugs, in different functions.
        share_two_lines: Share of functions whose body has two lines.
        num_hidden: Unseen cases for each broken function.
        min_changed: Least share of all inputs on which a bug must show.
        length: Modules that hold a bug and a needed fact, one of these drawn for each task; of 1
            it is an ordinary one, as all are if this is empty (`long_tasks.py`).
        distractors: Of a long task, modules without a bug for each of those.
    """

    num_modules: tuple[int, int] = (1, 3)
    num_functions: tuple[int, int] = (2, 5)
    share_two_sites: float = 0.4
    share_two_lines: float = 0.0
    num_hidden: int = 4
    min_changed: float = 0.15
    length: tuple[int, ...] = ()
    distractors: int = 1


DEFAULTS = SyntheticSettings()


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


def generate(
    num_tasks: int,
    *,
    split: Split,
    seed: int,
    settings: SyntheticSettings = DEFAULTS,
) -> Iterator[BuiltTask]:
    """Yield the first tasks of a split."""
    for index in range(num_tasks):
        yield generate_one(index, split=split, seed=seed, settings=settings)


def generate_one(
    index: int, *, split: Split, seed: int, settings: SyntheticSettings = DEFAULTS
) -> BuiltTask:
    """Return one task; it depends on its arguments only."""
    if settings.length:
        name = f"{LONG_GRAMMAR}:{seed}:{split}:{index}"
        length = random.Random(f"{name}:length").choice(settings.length)
        if length > 1:
            return generate_long(
                name,
                length=length,
                distractors=settings.distractors,
                num_functions=settings.num_functions,
                num_hidden=settings.num_hidden,
                min_changed=settings.min_changed,
                split=split,
                seed=seed,
            )
    name = f"{GRAMMAR}:{seed}:{split}:{index}"
    rng = random.Random(name)
    functions = _draw_functions(rng, split=split, settings=settings)
    num_sites = 2 if len(functions) > 1 and rng.random() < settings.share_two_sites else 1
    broken = _draw_broken(rng, functions, num_sites, split=split, settings=settings)
    return assemble_cases(
        _draw_cases(rng, functions, broken, num_hidden=settings.num_hidden),
        task_id="t_" + hash_text(name)[:12],
        split=split,
        seed=seed,
        generator=GRAMMAR,
        gold=_render(functions, {}),
        workspace=_render(functions, broken),
        operators=tuple(variant.operator for variant in broken.values()),
        num_sites=len(broken),
        gold_spans=tuple(
            Span(path=f.path, start=f.line, end=f.line + len(broken[f.id].lines) - 1)
            for f in functions
            if f.id in broken
        ),
    )


def _draw_functions(
    rng: random.Random, *, split: Split, settings: SyntheticSettings
) -> list[_Function]:
    """Draw modules of functions, at least two of them (if there are two) of the split's own."""
    sizes = [
        rng.randint(*settings.num_functions) for _ in range(rng.randint(*settings.num_modules))
    ]
    drawn = draw_combinations(rng, sum(sizes), split=split)
    names = rng.sample(list_names(sum(sizes)), sum(sizes))
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


def _draw_broken(
    rng: random.Random,
    functions: list[_Function],
    num_sites: int,
    *,
    split: Split,
    settings: SyntheticSettings,
) -> dict[str, Variant]:
    """Choose the functions to break, in different modules where there are two, and their bugs."""
    own = set(list_split_combinations(split))
    candidates = [
        function
        for function in functions
        if function.combination in own and _choices(function, settings)
    ]
    rng.shuffle(candidates)
    chosen = candidates[:1]
    if num_sites == 2:
        rest = sorted(candidates[1:], key=lambda function: function.path == chosen[0].path)
        chosen += rest[:1]
    broken = {}
    for function in chosen:
        choices = _choices(function, settings)
        broken[function.id] = rng.choice(choices[rng.choice(sorted(choices))])
    return broken


def _choices(function: _Function, settings: SyntheticSettings) -> dict[str, list[Variant]]:
    """Return the bugs that show on enough inputs, by operator."""
    by_operator: dict[str, list[Variant]] = {}
    for variant in list_variants(function.combination, function.body):
        if len(variant.changed) >= max(2.0, settings.min_changed * len(variant.values)):
            by_operator.setdefault(variant.operator, []).append(variant)
    return by_operator


def _draw_cases(
    rng: random.Random,
    functions: list[_Function],
    broken: dict[str, Variant],
    *,
    num_hidden: int,
) -> list[DrawnCase]:
    """Draw one visible and several hidden cases for each bug, and one for each distractor."""
    drawn = []
    for function in functions:
        gold = compute_gold_values(function.combination, function.body)
        variant = broken.get(function.id)
        if variant is None:
            args = rng.choice(tuple(gold))
            drawn.append(DrawnCase(function.path, function.name, args, gold[args], gold[args]))
            continue
        shown = rng.choice(variant.changed)
        for args in (shown, *_draw_hidden(rng, function, variant, shown, num_hidden=num_hidden)):
            found, is_visible = variant.values[args], args == shown
            drawn.append(
                DrawnCase(function.path, function.name, args, gold[args], found, is_visible)
            )
    rng.shuffle(drawn)
    return drawn


def _draw_hidden(
    rng: random.Random,
    function: _Function,
    variant: Variant,
    shown: Inputs,
    *,
    num_hidden: int,
) -> list[Inputs]:
    """Draw unseen inputs: one that shows the bug, then those that tell gold from other mutants."""
    chosen = [shown]
    while len(chosen) < 2:
        chosen += [args for args in [rng.choice(variant.changed)] if args not in chosen]
    others = list(list_variants(function.combination, function.body))
    rng.shuffle(others)
    for other in others:
        if other.changed and len(chosen) <= num_hidden and set(chosen).isdisjoint(other.changed):
            chosen.append(rng.choice(other.changed))
    everything = tuple(compute_gold_values(function.combination, function.body))
    while len(chosen) <= num_hidden:
        chosen += [args for args in [rng.choice(everything)] if args not in chosen]
    return chosen[1:]


def _render(functions: list[_Function], broken: dict[str, Variant]) -> Files:
    """Return the modules, with mutated bodies for the functions in `broken`."""
    modules: dict[str, list[str]] = {}
    for function in functions:
        source = write_function(function.name, function.combination, body=function.body)
        if function.id in broken:
            head = source_lines(source)[0]
            source = "\n".join((head, *broken[function.id].lines[1:])) + "\n"
        modules.setdefault(function.path, []).append(source)
    return {path: "\n".join(sources) for path, sources in modules.items()}
