"""Simulates `reward.pressure: controlled` beside the rule that it replaced.

    python benchmarks/cost_weight.py > benchmarks/results/cost_weight.md

No model: a pass rate is a number that follows a plan, or that the weight of cost pulls down. In the
plans it does what it does whatever the weight; in the loops it moves each step by a fifteenth of
the way to a level that falls by 0.6 times what the weight is above 0.35. Each row is the mean of
200 runs of 200 steps; noise is the standard deviation of a step's pass rate (0.03 is about 32
groups of 8, 0.08 about 8 groups of 8). Says how a rule reacts, not how a policy does.
"""

import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from rewards.cost_weight import CostWeightController

NUM_RUNS, NUM_STEPS, EPISODES = 200, 200, 256
START = 0.3  # of the weight
HARMLESS, HARM, INERTIA = 0.35, 0.6, 15
Rule = Callable[[float], float]  # a step's pass rate to the weight after it
EXPLAINED = __doc__.partition("\n\n    ")[2].partition("\n\n")[2]
HEADER = "| {} | Rule | Noise | Highest weight | Last weight | {} |\n|---|---|---|---|---|---|"


def main() -> int:
    """Print both tables; returns the exit code."""
    print(f"# The weight of cost: two rules\n\n`python benchmarks/cost_weight.py`\n\n{EXPLAINED}")
    print(HEADER.format("Plan", "Pass rate when the weight began to fall"))
    for name, plan in plans().items():
        for noise in (0.0, 0.03, 0.08):
            for rule, make in RULES.items():
                runs = [follow(plan, make(), noise, seed) for seed in range(NUM_RUNS)]
                falls = [rate for run in runs if (rate := rate_of_first_fall(run)) is not None]
                last = f"{fmean(falls):.2f}" if len(falls) > NUM_RUNS / 2 else "-"
                print(row(name, rule, noise, runs, last))
    print("\n" + HEADER.format("Loop", "Best pass rate, lowest after it"))
    for name, (start, level) in {"from 0.2 to 0.5": (0.2, 0.5), "at 0.5": (0.5, 0.5)}.items():
        for noise in (0.0, 0.03, 0.08):
            for rule, make in RULES.items():
                runs = [close(start, level, make(), noise, seed) for seed in range(NUM_RUNS)]
                best = fmean(max(rate for rate, _ in run) for run in runs)
                print(row(name, rule, noise, runs, f"{best:.2f}, {fmean(map(lowest, runs)):.2f}"))
    return 0


def plans() -> dict[str, list[float]]:
    """Return pass rates by step, each with ten steps of onset."""
    rise = [0.2] * 10 + [0.2 + 0.27 * n / 30 for n in range(30)]
    return {
        "rises to 0.47, stays 20 steps, falls": [
            *rise,
            *[0.47] * 20,
            *[max(0.0, 0.47 - 0.005 * n) for n in range(140)],
        ],
        "constant": [0.47] * NUM_STEPS,
    }


def old_rule() -> Rule:
    """Return the rule that took the onset's mean for reference, and errors of up to 0.1 upwards."""
    weight, rates, reference = START, list[float](), math.nan

    def step(rate: float) -> float:
        nonlocal weight, reference
        rates.append(rate)
        if len(rates) <= 10:
            reference = fmean(rates)
            return weight
        error = fmean(rates[-10:]) - (reference - 0.02)
        weight = max(0.03, min(1.0, weight * math.exp(0.5 * max(-0.1, min(0.1, error)))))
        return weight

    return step


def rule_of_today() -> Rule:
    """Return the shipped rule."""
    controller = CostWeightController(kind="controlled", weight=START)

    def step(rate: float) -> float:
        nonlocal controller
        controller = controller.after_step(pass_rate=rate, num_episodes=EPISODES)
        return controller.weight

    return step


RULES = {"before": old_rule, "now": rule_of_today}
Run = Sequence[tuple[float, float]]


def follow(plan: Sequence[float], rule: Rule, noise: float, seed: int) -> Run:
    """Return pass rate and weight of each step of a plan."""
    draw = random.Random(seed)
    return [(rate, rule(seen(rate, noise, draw))) for rate in plan]


def close(start: float, level: float, rule: Rule, noise: float, seed: int) -> Run:
    """Return pass rate and weight where the weight has an effect on the pass rate."""

    def steps() -> Iterator[tuple[float, float]]:
        draw, rate, weight = random.Random(seed), start, START
        for _ in range(NUM_STEPS):
            rate += (level - HARM * max(0.0, weight - HARMLESS) - rate) / INERTIA
            weight = rule(seen(rate, noise, draw))
            yield rate, weight

    return list(steps())


def seen(rate: float, noise: float, draw: random.Random) -> float:
    """Return what a step measures."""
    return min(1.0, max(0.0, rate + draw.gauss(0.0, noise)))


def rate_of_first_fall(run: Run) -> float | None:
    """Return the pass rate when the weight was first 10 % below its highest; None: never."""
    top = max(range(len(run)), key=lambda n: run[n][1])
    return next((rate for rate, weight in run[top:] if weight < 0.9 * run[top][1]), None)


def lowest(run: Run) -> float:
    """Return the lowest pass rate behind the highest."""
    best = max(range(len(run)), key=lambda n: run[n][0])
    return min(rate for rate, _ in run[best:])


def row(name: str, rule: str, noise: float, runs: Sequence[Run], last: str) -> str:
    """Return a row of a table."""
    highest = fmean(max(weight for _, weight in run) for run in runs)
    end = fmean(run[-1][1] for run in runs)
    return f"| {name} | {rule} | {noise:.2f} | {highest:.2f} | {end:.2f} | {last} |"


if __name__ == "__main__":
    sys.exit(main())
