"""How often a program guesses which test of a pair is the suite's, and which is the canary.

    python benchmarks/canaries.py FOLDER --out benchmarks/results/canaries.md

FOLDER holds sdists of projects. Pairs are drawn as for a grading (`envs/grading/canaries.py`), of
up to 40 tests a project. The guesser sees both halves and the rest of their file: what each value
is like, whether and how often the test and the file mention it, and how like it is to values that
suites of other projects write. How much each of this says is learned (logistic regression) from the
other four fifths of the projects. The exit code is 1 if it is right too often. About a CPU minute.

Limits: it knows no language, and does not know what the bug gives.
"""

import argparse
import ast
import functools
import math
import random
import re
import secrets
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch

from envs.errors import UserError
from envs.grading.canaries import Canaries, draw_canaries
from envs.syntax import parse_python
from train.stages.exit_codes import run_main

NUM_TESTS, NUM_FOLDS, NUM_STEPS = 40, 5, 400
MOST_RIGHT = 0.8
_CONSTANT = re.compile(r"[rRuU]?(?:\"[^\"]*\"|'[^']*')|\b[0-9][0-9a-zA-Z_.]*|\bTrue\b|\bFalse\b")
Known = tuple[Counter[str], Counter[str]]  # three letters in a row, and values
_RUNS = re.compile(r"[0-9]+|[^\W\d_]+")


@dataclass(frozen=True)
class Half:
    """One test of a pair: the value in which it differs, and what stands beside it."""

    value: str
    test: str
    file: str

    @property
    def text(self) -> str:
        """The value without its quotes."""
        return re.sub(r"^[rRuU]?['\"]+|['\"]+$", "", self.value)

    @property
    def kind(self) -> str:
        """What it is."""
        if self.value[-1] in "'\"":
            return "text"
        return "truth" if self.value in ("True", "False") else "number"


@dataclass(frozen=True)
class Pair:
    """The suite's half, the canary's, and the project."""

    project: str
    own: Half
    other: Half


def main(argv: list[str]) -> int:
    """Draw pairs, let them be guessed, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="sdists, as .tar.gz")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/canaries.md")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    trees = {path.name: read_tree(path) for path in sorted(asked.folder.glob("*.tar.gz"))}
    if not trees:
        raise UserError("no sdist there", got=str(asked.folder), remedy="name a folder of .tar.gz")
    pairs = [pair for name, tree in trees.items() for pair in draw_pairs(name, tree)]
    sureness = guess(pairs)
    text, is_fine = describe(pairs, sureness)
    asked.out.write_text(text, encoding="utf-8")
    print(text)
    return 0 if is_fine else 1


def read_tree(path: Path) -> dict[str, str]:
    """Return the programs of an sdist."""
    tree = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".py") and member.size < 400_000:
                found = archive.extractfile(member)
                text = found.read().decode("utf-8", "replace") if found else ""
                tree[member.name.partition("/")[2]] = text
    return tree


def draw_pairs(project: str, tree: Mapping[str, str]) -> Iterator[Pair]:
    """Yield pairs of a project's tests, each drawn by itself."""
    ids = [f"{path}::{name}" for path in tree if "test" in path for name in find_tests(tree[path])]
    rng, num = random.Random(0), 0
    for test_id in rng.sample(ids, len(ids)):
        found = draw_canaries(
            tree, ids, count=1, like=[test_id], patterns=("test",), seed=secrets.token_hex()
        )
        if found.renamed and (pair := read_pair(project, found)):
            yield pair
            num += 1
            if num == NUM_TESTS:
                return


def find_tests(text: str) -> Iterator[str]:
    """Yield the names of the tests of a file, behind those of their classes."""
    try:
        body = parse_python(text).body
    except (SyntaxError, ValueError):
        return
    for each in body:
        inside = each.body if isinstance(each, ast.ClassDef) else [each]
        for one in inside:
            if isinstance(one, ast.FunctionDef) and one.name.startswith("test"):
                yield one.name if one is each else f"{each.name}::{one.name}"  # type: ignore[attr-defined]


def read_pair(project: str, found: Canaries) -> Pair | None:
    """Return the two halves as the run has them; None if their values are not found."""
    ((canary, own_id),) = found.like.items()
    path = own_id.partition("::")[0]
    text, lines = found.files[path], found.files[path].split("\n")
    spans = {
        node.name: lines[node.lineno : node.end_lineno]
        for node in ast.walk(parse_python(text))
        if isinstance(node, ast.FunctionDef)
    }
    own, other = (spans[name.rpartition("::")[2]] for name in (found.renamed[own_id], canary))
    rest = text.replace("\n".join(own), "").replace("\n".join(other), "")
    for at, both in enumerate(zip(own, other, strict=True)):
        for left, right in zip(*(_CONSTANT.finditer(line) for line in both), strict=False):
            if left.group() != right.group():
                beside = [
                    "\n".join([*half[:at], f"{line[: each.start()]} {line[each.end() :]}"])
                    + "\n".join(half[at + 1 :])
                    for half, line, each in zip((own, other), both, (left, right), strict=True)
                ]
                halves = [
                    Half(each.group(), test, rest)
                    for each, test in zip((left, right), beside, strict=True)
                ]
                return Pair(project, halves[0], halves[1])
    return None


@functools.cache
def describe_half(half: Half) -> list[float]:
    """Return what there is to be said of a value, but how common it is in other suites."""
    text, runs = half.text, _RUNS.findall(half.text)
    beside = Counter(_RUNS.findall(half.test))
    elsewhere = Counter(_RUNS.findall(half.file))
    number = _to_number(half.value)
    numbers = [int(each) for each in re.findall(r"\b\d{1,9}\b", half.test)]
    quoted = re.findall(r"['\"]([^'\"\n]+)['\"]", half.test)[:20]
    found = list(_RUNS.finditer(text))
    joined = [text[a.start() : b.end()] for a, b in pairwise(found)]
    likeness = [SequenceMatcher(None, text[:80], each[:80]).ratio() for each in quoted]
    return [
        sum(run in beside for run in runs),
        sum(math.log1p(beside[run]) for run in runs),
        sum(math.log1p(elsewhere[run]) for run in runs),
        sum(each in half.test for each in joined),
        sum(each in half.file for each in joined),
        float(len(text) > 1 and text in half.test),
        float(len(text) > 1 and text in half.file),
        len(runs) - len(set(runs)),
        max(likeness, default=0.0),
        math.log1p(abs(number)),
        float(number < 0),
        float(number % 2 == 0),
        len(text) - len(text.rstrip("0")),
        len(half.value),
        float(half.value[-1] == '"'),
        -min((abs(number - each) for each in numbers), default=0.0) / (1 + abs(number)),
        float(number in (sum(numbers), len(numbers))),
        float(number + 1 in numbers) + float(number - 1 in numbers),
    ]


def _to_number(written: str) -> float:
    value = ast.literal_eval(written) if written[-1] not in "'\"" else 0
    return float(min(value, 1e300)) if isinstance(value, int | float) else 0.0


def _weigh(half: Half, known: Known, mine: Known) -> list[float]:
    """Return how common a value is where others are known, without those of its own pair."""
    letters = [math.log(known[0][t] - mine[0][t] + 0.3) for t in _triples(half.text)]
    return [sum(letters), math.log(known[1][half.value] - mine[1][half.value] + 0.3)]


def _count(pairs: Iterable[Pair]) -> Known:
    own = [pair.own for pair in pairs]
    return Counter(t for half in own for t in _triples(half.text)), Counter(h.value for h in own)


def _triples(text: str) -> Iterator[str]:
    padded = f"^^{text[:60]}$"
    yield from (padded[at : at + 3] for at in range(len(padded) - 2))


def guess(pairs: Sequence[Pair]) -> torch.Tensor:
    """Return how sure the guesser is of the suite's half, of each pair; below 0 it is wrong."""
    projects = sorted({pair.project for pair in pairs})
    random.Random(0).shuffle(projects)
    fold_of = {project: number % NUM_FOLDS for number, project in enumerate(projects)}
    folds = torch.tensor([fold_of[pair.project] for pair in pairs])
    sureness = torch.zeros(len(pairs))
    for fold in range(NUM_FOLDS):
        known = _count(pair for pair in pairs if fold_of[pair.project] != fold)
        rows = []
        for pair in pairs:
            mine = _count([pair] if fold_of[pair.project] != fold else [])
            own, other = (
                [*describe_half(half), *_weigh(half, known, mine)]
                for half in (pair.own, pair.other)
            )
            rows.append([a - b for a, b in zip(own, other, strict=True)])
        table = torch.tensor(rows)
        table = table / (table[folds != fold].std(0) + 1e-6)
        weights = _learn(table[folds != fold])
        sureness[folds == fold] = table[folds == fold] @ weights
    return sureness


def _learn(rows: torch.Tensor) -> torch.Tensor:
    weights = torch.zeros(rows.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weights], 0.05)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.softplus(-(rows @ weights)).mean() + 0.01 * (weights**2).sum()
        loss.backward()
        optimizer.step()
    return weights.detach()


def describe(pairs: Sequence[Pair], sureness: torch.Tensor) -> tuple[str, bool]:
    """Return the table, and whether the guesser is wrong often enough."""
    kinds = {kind: [p.own.kind == kind for p in pairs] for kind in ("number", "text", "truth")}
    rows = {"all": torch.ones(len(pairs), dtype=torch.bool)}
    rows |= {kind: torch.tensor(which) for kind, which in kinds.items() if any(which)}
    lines = [
        "# Canaries and a program that guesses",
        "",
        f"`python benchmarks/canaries.py`: {len(pairs)} pairs of tests of "
        f"{len({pair.project for pair in pairs})} projects. Chance is 50 %. A grading has three "
        "canaries, and a guesser must be right about all.",
        "",
        "| Value | Pairs | Right | Right about three | Right in the quarter it is surest of |",
        "|---|---|---|---|---|",
    ]
    for name, which in rows.items():
        sure = sureness[which]
        right = float((sure > 0).float().mean() + 0.5 * (sure == 0).float().mean())
        surest = sure[sure.abs().argsort(descending=True)[: max(1, len(sure) // 4)]]
        lines.append(
            f"| {name} | {len(sure)} | {right:.0%} | {right**3:.0%} | "
            f"{float((surest > 0).float().mean()):.0%} |"
        )
    all_right = float((sureness > 0).float().mean())
    return "\n".join(lines) + "\n", all_right <= MOST_RIGHT


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
