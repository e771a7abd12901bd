"""Long tasks: 2 to 8 modules, each with a bug that needs a fact which another of them states.

The modules form a ring: what the bug of one needs stands in the docstring of the next
(`facts.py`), and they are numbered at random among modules without a bug. All of that has to be
seen, and not at once. A bug is a fact that is out of date, in about half of them with a second
fault in what is computed before it. The symptom does not give the fact away: at least `MIN_ALIKE`
facts give the value that is expected, and hidden cases tell the right one from all others.

Not covered: who guesses is right at one bug in `MIN_ALIKE` at best (`benchmarks/long_tasks.py`
measures it).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from envs.files import hash_text
from envs.records import Span, Split
from envs.sources.cases import DrawnCase, assemble_cases
from envs.sources.facts import (
    FACT_KINDS,
    STALE,
    Fact,
    FactKind,
    Use,
    apply_fact,
    draw_fact,
    list_values,
)
from envs.sources.grammar import (
    Combination,
    draw_combinations,
    list_names,
    list_split_combinations,
    write_function,
)
from envs.sources.variants import (
    Inputs,
    Raised,
    Variant,
    compute_gold_values,
    is_wrong,
    list_variants,
)
from envs.tasks.store import BuiltTask, Files

LONG_GRAMMAR = "synthetic/long/2"
MIN_ALIKE = 3  # facts that give the visible value: no more is sure to be had of every kind
SHARE_TWO_FAULTS = 0.5  # [reasoned] the other half asks for the fact alone
NUM_DISTRACTORS = 1200  # texts of modules without a bug, of a split: 8 x 100, and then some
_MAX_DRAWS = 1000  # of a bug: 4 on average
Values = Mapping[Inputs, object]


@dataclass(frozen=True)
class _Bug:
    """A function with an old fact.

    Attributes:
        fact: What the next module states.
        old: The value that is built in.
        variant: The second fault, in what is computed before; None if there is none.
        gold: What the function should give; found: what it gives.
        others: What each wrong value of the fact would give.
        shown: Inputs of the visible case.
    """

    combination: Combination
    fact: Fact
    old: str
    variant: Variant | None
    gold: Values
    found: Values
    others: tuple[Values, ...]
    shown: Inputs

    def write(self, name: str, module: str, *, is_broken: bool) -> str:
        use = Use(self.fact.kind, module)
        if not is_broken:
            return use.write(name, self.combination, self.fact.value)
        inner = self.variant.lines[-1].partition("return ")[2] if self.variant else ""
        return use.write(name, self.combination, self.old, inner=inner)


@dataclass(frozen=True)
class _Module:
    """A module: its fact, its functions without a bug, and the bug, if any, at a place among them.

    Attributes:
        needs: Name of the module whose fact the bug needs.
    """

    fact: Fact
    names: tuple[str, ...]
    combinations: tuple[Combination, ...]
    bug: _Bug | None = None
    place: int = 0
    needs: str = ""

    def write(self, *, is_broken: bool) -> str:
        sources = [
            write_function(name, combination, body="one")
            for name, combination in zip(self.plain_names, self.combinations, strict=True)
        ]
        if self.bug is not None:
            name = self.names[self.place]
            sources.insert(self.place, self.bug.write(name, self.needs, is_broken=is_broken))
        return "\n".join(["\n".join(self.fact.lines) + "\n", *sources])

    @property
    def plain_names(self) -> list[str]:
        """Return the names of the functions without a bug."""
        return [n for at, n in enumerate(self.names) if self.bug is None or at != self.place]

    @property
    def bug_line(self) -> int:
        """Return the line of the broken function's `def`; functions have three and an empty one."""
        return len(self.fact.lines) + 2 + 4 * self.place


def generate_long(
    name: str,
    *,
    length: int,
    distractors: int,
    num_functions: tuple[int, int],
    num_hidden: int,
    min_changed: float,
    split: Split,
    seed: int,
) -> BuiltTask:
    """Return one long task; it depends on its arguments only.

    Args:
        name: Seed of all draws, and what the id is made of.
        length: Modules with a bug, each needing a fact of the next.
        distractors: Modules without a bug for each of these.
        num_functions: Fewest and most functions of such a module, the broken one included.
        num_hidden: Unseen cases for each bug; more where they tell no less than all facts apart.
        min_changed: Least share of all inputs on which a bug must show.
    """
    rng = random.Random(name)
    numbers = rng.sample(range(length * (1 + distractors)), length)
    ring = [f"m{number}" for number in numbers]
    modules = _draw_modules(rng, ring, num_functions, split=split, min_changed=min_changed)
    around = iter(rng.sample(range(NUM_DISTRACTORS), length * distractors))
    placed = {
        f"m{number}.py": modules.get(f"m{number}") or _draw_distractor(next(around), split)
        for number in range(length * (1 + distractors))
    }
    return assemble_cases(
        _draw_cases(rng, placed, num_hidden=num_hidden),
        task_id="t_" + hash_text(name)[:12],
        split=split,
        seed=seed,
        generator=LONG_GRAMMAR,
        gold=_render(placed, is_broken=False),
        workspace=_render(placed, is_broken=True),
        operators=tuple(_list_operators(placed)),
        num_sites=length,
        gold_spans=tuple(_list_needed(placed)),
    )


def _draw_modules(
    rng: random.Random,
    ring: list[str],
    num_functions: tuple[int, int],
    *,
    split: Split,
    min_changed: float,
) -> dict[str, _Module]:
    """Draw the modules of the ring: the bug of each needs the fact of the next one."""
    sizes = [rng.randint(*num_functions) for _ in ring]
    names = rng.sample(list_names(sum(sizes)), sum(sizes))
    plain = draw_combinations(rng, max(1, sum(sizes)), split=split)
    bugs = [_draw_bug(rng, split=split, min_changed=min_changed) for _ in ring]
    modules = {}
    for at, (own, size) in enumerate(zip(ring, sizes, strict=True)):
        modules[own] = _Module(
            fact=bugs[at - 1].fact,
            names=tuple(names.pop() for _ in range(size)),
            combinations=tuple(plain.pop() for _ in range(size - 1)),
            bug=bugs[at],
            place=rng.randrange(size),
            needs=ring[(at + 1) % len(ring)],
        )
    return modules


@cache
def _draw_distractor(number: int, split: Split) -> _Module:
    """Return one of the modules without a bug, which tasks of a split share."""
    rng = random.Random(f"{LONG_GRAMMAR}:{split}:{number}")
    size = rng.randint(2, 4)
    return _Module(
        fact=draw_fact(rng, rng.choice(FACT_KINDS)),
        names=tuple(f"{word}{number}" for word in rng.sample(list_names(1), size)),
        combinations=tuple(draw_combinations(rng, size, split=split)),
    )


def _draw_bug(rng: random.Random, *, split: Split, min_changed: float) -> _Bug:
    """Draw a bug that shows on enough inputs, on one of which its fact does not show."""
    own = list_split_combinations(split)
    for _ in range(_MAX_DRAWS):
        fact = draw_fact(rng, rng.choice(FACT_KINDS))
        combination, right = rng.choice(own), fact.value
        wrong = [value for value in list_values(fact.kind) if value != right]
        inner = compute_gold_values(combination, "one")
        gold = _apply(inner, fact.kind, right)
        others = [_apply(inner, fact.kind, value) for value in wrong]
        others = [other for other in others if other != gold]
        old, variant = rng.choice(wrong), None
        if rng.random() < SHARE_TWO_FAULTS:
            variant = rng.choice(list_variants(combination, "one"))
        found = _apply(variant.values if variant else inner, fact.kind, old)
        changed = [args for args, value in gold.items() if is_wrong(found[args], value)]
        if len(changed) < max(2.0, min_changed * len(gold)):
            continue
        telling_little = [
            args
            for args in changed
            if sum(other[args] == gold[args] for other in others) >= MIN_ALIKE - 1
        ]
        if telling_little:
            shown = rng.choice(telling_little)
            return _Bug(combination, fact, old, variant, gold, found, tuple(others), shown)
    raise AssertionError("no bug of the grammar fits")


def _apply(inner: Values, kind: FactKind, value: str) -> dict[Inputs, object]:
    """Return what a function with this fact gives, from what it computes before."""
    apply, values = _load_fact(kind, value), dict[Inputs, object]()
    for args, x in inner.items():
        try:
            values[args] = x if isinstance(x, Raised) else apply(x)
        except TypeError:  # a variant that returns None
            values[args] = Raised("TypeError")
    return values


@cache
def _load_fact(kind: FactKind, value: str) -> Callable[[object], object]:
    function: Callable[[object], object] = eval(f"lambda x: {apply_fact('x', kind, value)}")
    return function


def _draw_cases(
    rng: random.Random, placed: Mapping[str, _Module], *, num_hidden: int
) -> list[DrawnCase]:
    """Draw those of each bug, and one for each other function of a module with a bug.

    As many functions of modules without one are asked, too.
    """
    drawn = []
    for path, module in placed.items():
        if module.bug is None:
            continue
        bug, name = module.bug, module.names[module.place]
        for args in (bug.shown, *_draw_hidden(rng, bug, num_hidden=num_hidden)):
            gold, found = bug.gold[args], bug.found[args]
            drawn.append(DrawnCase(path, name, args, gold, found, is_visible=args == bug.shown))
        drawn += _ask_plain(rng, path, module, most=len(module.combinations))
    around = [path for path, module in placed.items() if module.bug is None]
    for path in rng.sample(around, min(len(around), len(placed) - len(around))):
        drawn += _ask_plain(rng, path, placed[path], most=1)
    rng.shuffle(drawn)
    return drawn


def _ask_plain(rng: random.Random, path: str, module: _Module, *, most: int) -> list[DrawnCase]:
    """Draw a case for each of the first functions without a bug."""
    drawn = []
    for name, combination in list(zip(module.plain_names, module.combinations, strict=True))[:most]:
        gold = compute_gold_values(combination, "one")
        args = rng.choice(tuple(gold))
        drawn.append(DrawnCase(path, name, args, gold[args], gold[args]))
    return drawn


def _draw_hidden(rng: random.Random, bug: _Bug, *, num_hidden: int) -> list[Inputs]:
    """Draw unseen inputs: one that shows the bug, then those that tell gold from what is wrong.

    All other facts are told apart, and other faults of what is computed before as far as
    `num_hidden` cases go.
    """
    changed = [args for args in bug.gold if is_wrong(bug.found[args], bug.gold[args])]
    chosen = [bug.shown, rng.choice([args for args in changed if args != bug.shown])]
    faults = [
        _apply(variant.values, bug.fact.kind, bug.fact.value)
        for variant in list_variants(bug.combination, "one")
    ]
    for others, most in ((bug.others, len(bug.gold)), (faults, num_hidden)):
        for other in rng.sample(others, len(others)):
            telling = [args for args in bug.gold if is_wrong(other[args], bug.gold[args])]
            if telling and len(chosen) <= most and set(chosen).isdisjoint(telling):
                chosen.append(rng.choice(telling))
    rest = [args for args in bug.gold if args not in chosen]
    chosen += rng.sample(rest, max(0, 1 + num_hidden - len(chosen)))
    return chosen[1:]


def _render(placed: Mapping[str, _Module], *, is_broken: bool) -> Files:
    return {path: module.write(is_broken=is_broken) for path, module in placed.items()}


def _list_operators(placed: Mapping[str, _Module]) -> list[str]:
    bugs = [module.bug for module in placed.values() if module.bug is not None]
    return [STALE] * len(bugs) + [bug.variant.operator for bug in bugs if bug.variant]


def _list_needed(placed: Mapping[str, _Module]) -> list[Span]:
    """Return what has to be seen: each broken function, and behind it the fact that it needs."""
    spans = []
    for path, module in placed.items():
        if module.bug is not None:
            start, num_rows = module.bug_line, len(module.bug.fact.rows)
            spans.append(Span(path=path, start=start, end=start + 2))
            spans.append(Span(path=f"{module.needs}.py", start=1, end=1 + num_rows))
    return spans
