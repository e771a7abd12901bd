"""What `study.py` made, as a page: arms, comparisons, goals, ablations, what is missing.

Everything is computed from the episodes that are there; rows of fewer seeds say so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.ablation import BEHAVIOURS
from benchmarks.any_project import commit
from benchmarks.cells import Cell, Place, find_missing
from benchmarks.demo import curves
from benchmarks.measuring import show_interval
from envs.records import Episode
from rewards.cost import PRESETS, cost
from rewards.metrics import compare_seeds, summarize, summarize_seeds
from rewards.outcome import is_solved
from rewards.seeds import t_interval

ARMS_AT_W = ("learned", "full_history", "mask", "summarize", "hybrid")
WIDE = "full_history_4W"
FORMS = ("default", "additive", "multiplicative", "zscore", "outcome_only")
ADAPTER = "grpo-adapter"  # as `evaluate` names the adapter of another run
SEEDS_OF_A_CLAIM = 5
LONGEST_RUN_S = 720.0
_NEAR = math.log(1.1)  # of tokens per solved on dev tasks: pressure counts as matched
Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """The cells of a study; the last two follow from the results of others.

    Attributes:
        place: Where they are.
        seeds: Of the arms.
        arms: `learned` of the first seed comes first.
        ablations: Evaluations of `learned` with something taken away.
        extras: Of the first seed: the price meter, forms of the reward on dev tasks.
        rejection: Of the first seed: trained on what GRPO's rollouts solved.
        matched: Of the first seed: forms of the reward on test tasks.
    """

    place: Place
    seeds: tuple[int, ...]
    arms: tuple[Cell, ...]
    ablations: tuple[Cell, ...]
    extras: tuple[Cell, ...]
    rejection: tuple[Cell, ...] = ()
    matched: tuple[Cell, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """All of them."""
        return [*self.arms, *self.ablations, *self.extras, *self.rejection, *self.matched]

    @property
    def is_open(self) -> bool:
        """Whether cells that follow from others cannot be named yet."""
        return not self.rejection or not self.matched

    def episodes(self, name: str, series: str) -> list[Episode] | None:
        """Return what a policy of a cell played; None where it is not whole."""
        cell = {each.name: each for each in self.cells}.get(name)
        if cell is None or not self.place.is_whole(cell, "evaluate"):
            return None
        return self.place.episodes(cell, series)

    def measure_aim(self) -> float | None:
        """Return the tokens per solved of `learned` on dev tasks, which other forms match."""
        return _per_solved(self.episodes(name_reference(self.seeds[0]), ADAPTER))

    def of_arm(self, arm: str, series: str = "grpo") -> dict[int, list[Episode]]:
        """Return what the runs of an arm played, by seed."""
        found = {seed: self.episodes(f"{arm}{seed}", series) for seed in self.seeds}
        return {seed: episodes for seed, episodes in found.items() if episodes}


@dataclass(frozen=True)
class Goal:
    """One line that the study is to reach.

    Attributes:
        text: What is asked for.
        against: The arm that `learned` is compared with.
        number: Name of the compared number.
        judge: Tells from its value and the ends of its interval whether it is reached, in words.
    """

    text: str
    against: str
    number: str
    judge: Callable[[float, float, float], str]


def _below(most: float) -> Callable[[float, float, float], str]:
    def judge(value: float, low: float, high: float) -> str:
        if high <= most:
            return "met"
        return "met by the value, not by its interval" if value <= most else "NOT met"

    return judge


def _not_lower(value: float, low: float, high: float) -> str:
    return "met" if value >= 0 else "NOT met"


def _not_inferior(value: float, low: float, high: float) -> str:
    return "met" if low >= -0.03 else "NOT met"


_POINTS, _TOKENS, _PEAK = "pass_rate_difference", "tokens_per_solved_ratio", "peak_context_ratio"
GOALS = (
    Goal("pass rate not inferior (lower end at least -3 points)", WIDE, _POINTS, _not_inferior),
    Goal("peak context at most 1/3", WIDE, _PEAK, _below(1 / 3)),
    Goal("tokens per solved at most 1/2", WIDE, _TOKENS, _below(1 / 2)),
    Goal("tokens per solved at most 0.8", "mask", _TOKENS, _below(0.8)),
    Goal("pass rate no lower", "mask", _POINTS, _not_lower),
    Goal("tokens per solved at most 0.8", "summarize", _TOKENS, _below(0.8)),
    Goal("pass rate no lower", "summarize", _POINTS, _not_lower),
)


def find_matched(study: Study) -> dict[str, Cell]:
    """Return for each form of the reward the run that spends on dev tasks most nearly as `default`.

    Without those of which every run solved nothing.
    """
    aim, found = study.measure_aim(), dict[str, Cell]()
    for form in FORMS[1:]:
        off = {
            cell: abs(math.log(spent / aim))
            for cell in study.extras
            if cell.name.startswith(f"{form}_") and aim
            if (spent := _per_solved(study.episodes(cell.name, "grpo")))
        }
        if off:
            found[form] = min(off, key=lambda cell: off[cell])
    return found


def name_reference(seed: int) -> str:
    """Return the name of the cell that plays `learned` on dev tasks."""
    return f"learned{seed}_dev"


def _per_solved(episodes: Sequence[Episode] | None) -> float | None:
    value = summarize(episodes or (), name="", sampling="")["tokens_per_solved"]
    return None if value is None else float(value)


def write_report(study: Study, argv: Sequence[str]) -> list[str]:
    """Return the page."""
    missing = find_missing(study.place, study.cells)
    follows = {"rejection sampling": study.rejection, "matched forms": study.matched}
    names = [cell.name for cell in missing]
    names += [f"{name} (follows from others)" for name, cells in follows.items() if not cells]
    return [
        "# The study: learned context management against other strategies",
        "",
        f"`python benchmarks/study.py {' '.join(argv)}`, at {commit()}; overrides of all runs: "
        f"`{' '.join(study.place.shared)}`. 95 % intervals over training seeds (Student's t; of "
        "one seed over tasks alone), with the error of the tasks that they share.",
        "",
        f"**Missing cells: {', '.join(names) if names else 'none'}.**",
        "",
        "## Arms, on held-out tasks",
        "",
        *list_arms(study),
        "",
        "## `learned` against each arm, paired by seed and task",
        "",
        *compare_arms(study),
        "",
        "## Goals",
        "",
        *judge_goals(compare_learned(study), study.seeds),
        "",
        "## What training changed in `learned`",
        "",
        *list_actions(study),
        "",
        "## Five behaviours, taken from `learned` at evaluation",
        "",
        *list_ablations(study),
        "",
        f"## Seed {study.seeds[0]}: rejection sampling, forms of the reward, meters",
        "",
        *list_extras(study),
        "",
        "## Curves on dev tasks",
        "",
        *curves(study.place, [cell.name for cell in study.arms]),
        "",
        "## Time",
        "",
        *list_times(study),
    ]


def list_arms(study: Study) -> list[str]:
    """Return the table of arms, before and after GRPO."""
    heads = "arm|policy|seeds|tasks|episodes|pass rate|in windows that need a rewrite"
    heads += "|tokens per solved|peak, median and p95|own rewrites|automatic"
    lines = _begin(heads)
    for arm in (*ARMS_AT_W, WIDE):
        for series in ("sft", "grpo"):
            played = list(study.of_arm(arm, series).values())
            if not played:
                lines.append(f"| {arm} | {series} | 0 |" + " |" * 8)
                continue
            row = summarize_seeds(played, name=arm, sampling="temperature 1")
            tight = row["discipline"]["pass_rate_needs_rewrite"]
            cells = [
                arm,
                series,
                str(row["num_seeds"]),
                str(row["num_tasks"]),
                str(row["num_samples"]),
                show_interval(row["pass_rate"], row["pass_rate_ci95"], ".3f"),
                "-" if tight is None else f"{tight:.3f}",
                show_interval(row["tokens_per_solved"], row["tokens_per_solved_ci95"], ",.0f"),
                f"{row['peak_context_p50']:,.0f}, {row['peak_context_p95']:,.0f}",
                f"{row['evictions_mean'] + row['compactions_mean']:.2f}",
                f"{row['automatic_rewrites_mean']:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def compare_learned(study: Study) -> dict[str, Row]:
    """Return how `learned` compares with each arm, on the seeds that both have."""
    learned, found = study.of_arm("learned"), dict[str, Row]()
    for arm in (*ARMS_AT_W[1:], WIDE):
        other = study.of_arm(arm)
        pairs = [(other[n], learned[n]) for n in study.seeds if n in other and n in learned]
        if pairs:
            found[arm] = compare_seeds(pairs, first_name=arm, second_name="learned")
    return found


def compare_arms(study: Study) -> list[str]:
    """Return the table of comparisons."""
    return _compare(compare_learned(study), "against")


def judge_goals(compared: Mapping[str, Row], seeds: Sequence[int]) -> list[str]:
    """Return a line for each goal: met, not met, or not judged and why."""
    lines = []
    for goal in GOALS:
        row = compared.get(goal.against)
        said = f"- {goal.text}, against `{goal.against}`: "
        if row is None or row["num_seeds"] < len(seeds):
            num = 0 if row is None else row["num_seeds"]
            lines.append(f"{said}**not judged**, {num} of {len(seeds)} seeds are there")
            continue
        value, ends = row[goal.number], row[f"{goal.number}_ci95"]
        form = "+.3f" if goal.number == _POINTS else ".3f"
        if value is None:
            lines.append(f"{said}**NOT met**, one side solved nothing")
            continue
        low, high = (
            edge if each is None else each
            for each, edge in zip(ends, (-math.inf, math.inf), strict=True)
        )
        verdict = goal.judge(value, low, high)
        few = len(seeds) < SEEDS_OF_A_CLAIM
        tail = f"; {len(seeds)} seeds, a claim takes {SEEDS_OF_A_CLAIM}" if few else ""
        lines.append(f"{said}**{verdict}**, {show_interval(value, ends, form)}{tail}")
    return lines


def list_actions(study: Study) -> list[str]:
    """Return how often note, evict and compact are used, where needed and elsewhere."""
    lines = _begin("own context actions per episode|seeds|sft|grpo|change over seeds")
    before, after = study.of_arm("learned", "sft"), study.of_arm("learned")
    for name, words in (("needs_rewrite", "window needs a rewrite"), ("elsewhere", "it does not")):
        pairs = [
            tuple(_discipline(each[seed])[f"context_actions_{name}"] for each in (before, after))
            for seed in study.seeds
            if seed in before and seed in after
        ]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if known:
            change = t_interval([b - a for a, b in known])
            means = [sum(side) / len(known) for side in zip(*known, strict=True)]
            shown = show_interval(change.value, change.ci95, "+.3f")
            lines.append(f"| {words} | {len(known)} | {means[0]:.3f} | {means[1]:.3f} | {shown} |")
    return lines


def list_ablations(study: Study) -> list[str]:
    """Return what each behaviour is worth to the trained policy."""
    whole, found = study.of_arm("learned"), dict[str, Row]()
    for each in BEHAVIOURS:
        left = {n: study.episodes(f"learned{n}_without_{each}", ADAPTER) for n in study.seeds}
        pairs = [(whole[n], played) for n, played in left.items() if played and n in whole]
        if pairs:
            found[each] = compare_seeds(pairs, first_name="learned", second_name=each)
    return _compare(found, "without")


def list_extras(study: Study) -> list[str]:
    """Return the cells of one seed beside `learned`, in tokens and in price."""
    seed = study.seeds[0]
    rows = {
        "learned, sft": study.episodes(f"learned{seed}", "sft"),
        "learned": study.episodes(f"learned{seed}", "grpo"),
        "rejection sampling": study.episodes(f"rejection{seed}", "sft"),
        "price meter": study.episodes(f"price{seed}", "grpo"),
    }
    rows |= {cell.name: study.episodes(cell.name, ADAPTER) for cell in study.matched}
    lines = _begin("policy|episodes|pass rate|tokens per solved|price per solved")
    for name, episodes in rows.items():
        if not episodes:
            continue
        row = summarize(episodes, name=name, sampling="")
        price = sum(cost(each, weights=PRESETS["price"]) for each in episodes)
        num_solved = sum(map(is_solved, episodes))
        cells = [
            name,
            str(row["num_samples"]),
            show_interval(row["pass_rate"], row["pass_rate_ci95"], ".3f"),
            show_interval(row["tokens_per_solved"], row["tokens_per_solved_ci95"], ",.0f"),
            f"{price / num_solved:,.0f}" if num_solved else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *list_sweep(study)]


def list_sweep(study: Study) -> list[str]:
    """Return what each form and weight of the reward gave on dev tasks, and which was chosen."""
    lines = _begin("on dev tasks|pass rate|tokens per solved|chosen")
    chosen = find_matched(study)
    aim, reference = study.measure_aim(), name_reference(study.seeds[0])
    for cell in study.extras:
        series = ADAPTER if cell.name == reference else "grpo"
        episodes = study.episodes(cell.name, series)
        if not episodes or not cell.name.startswith((*FORMS, reference)):
            continue
        row, mark = summarize(episodes, name="", sampling=""), ""
        spent = row["tokens_per_solved"]
        if cell in chosen.values() and spent and aim:
            is_near = abs(math.log(spent / aim)) <= _NEAR
            mark = "matched" if is_near else "nearest, NOT matched"
        passed = show_interval(row["pass_rate"], row["pass_rate_ci95"], ".3f")
        tokens = show_interval(spent, row["tokens_per_solved_ci95"], ",.0f")
        lines.append(f"| {cell.name} | {passed} | {tokens} | {mark} |")
    return lines


def list_times(study: Study) -> list[str]:
    """Return the wall minutes of each arm's runs, tasks and evaluation left out."""
    lines = _begin("run|demonstrations|warm start|GRPO|together, minutes")
    for cell in study.arms:
        parts = [study.place.seconds(cell, stage) for stage in ("demos", "sft", "grpo")]
        texts = ["-" if each is None else f"{each / 60:.1f}" for each in parts]
        total = None if None in parts else sum(each for each in parts if each is not None)
        long = "" if total is None or total <= LONGEST_RUN_S else ", over 12"
        texts.append("-" if total is None else f"{total / 60:.1f}{long}")
        lines.append(f"| {cell.name} | {' | '.join(texts)} |")
    return lines


def _compare(found: Mapping[str, Row], head: str) -> list[str]:
    lines = _begin(
        f"{head}|seeds|tasks|pass rate difference|tokens per solved, ratio|mean peak, ratio"
    )
    for name, row in found.items():
        cells = [
            name,
            str(row["num_seeds"]),
            str(row["num_tasks"]),
            show_interval(row[_POINTS], row[f"{_POINTS}_ci95"], "+.3f"),
            show_interval(row[_TOKENS], row[f"{_TOKENS}_ci95"], ".3f"),
            show_interval(row[_PEAK], row[f"{_PEAK}_ci95"], ".3f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _discipline(episodes: Sequence[Episode]) -> dict[str, float | None]:
    found: dict[str, float | None] = summarize(episodes, name="", sampling="")["discipline"]
    return found


def _begin(heads: str) -> list[str]:
    return [f"| {heads.replace('|', ' | ')} |", "|---" * len(heads.split("|")) + "|"]
