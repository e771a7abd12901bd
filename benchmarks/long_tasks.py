"""Whether long tasks can be solved in windows that need a rewrite, and only by reading the facts.

    python benchmarks/long_tasks.py --tasks 500 --seconds 600 --out benchmarks/results/long_tasks.md

For each length (2, 4 and 8 modules that hold needed facts) that many test tasks of a generated set
go through the gate of every task (gold 1, no-op 0, by the production grader) and are played by
scripts: `shown_only` (knows gold; edits once it has read the fact, with the function in view), and
`sighted` (knows no gold and has no memory but the view), with notes and with compaction. The window
of each is drawn between a share (`LEAST_SHARES`) of the least in which some reader solves without a
rewrite (`envs/readers/least_peak.py`) and that, so it needs one. An episode is solved if it submits
exactly the files of gold, which the gate has graded. Tokens are those of the tiny model's
tokenizer, limits near those of configs/tiny.yaml.

`guessed` is computed, not played: the share of tasks that are solved by who puts all else right and
draws each fact from those that give the visible value. The exit code is 1 unless gold solved all in
the gate, `shown_only` all and one of the `sighted` at least 95 % of each length.
Rows are kept, one by one: the same command goes on. About 0.3, 0.6 and 2 s of CPU for a task.
"""

import argparse
import math
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import Row, Spec, collect
from envs.environment import Environment, Limits
from envs.files import hash_text, to_json
from envs.grading.graders import Grader, make_grader
from envs.policies import Script, ScriptedPolicy
from envs.prompts import system_prompt
from envs.readers.least_peak import measure_least_peak
from envs.records import StopReason
from envs.rendering import ChatFormat
from envs.sandbox.encoding import encode_value
from envs.source_text import source_lines
from envs.sources.facts import list_values, read_use
from envs.sources.grammar import load_function
from envs.sources.long_scripts import shown_only, sighted
from envs.sources.synthetic import DEFAULTS, SyntheticSettings, generate
from envs.tasks.store import BuiltTask, TaskStore
from envs.tasks.validate import apply_gold, validate
from train.models.tiny_tokenizer import task_corpus, train_tokenizer

LENGTHS = (2, 4, 8)
SIZES = replace(DEFAULTS, num_functions=(2, 3))
LEAST_SHARES = {2: 0.9, 4: 0.6, 8: 0.5}  # of the least window without a rewrite
LIMITS = Limits(
    window_tokens=0,  # each task's own
    max_turns=60,
    max_new_tokens=64,
    observation_tokens=160,
)
NAMES = ("shown_only", "note", "compact")
MakeScript = Callable[[BuiltTask, Limits], Script]


def make_chat(sizes: SyntheticSettings) -> ChatFormat:
    """Return the tiny model's format, its tokenizer trained on tasks of all lengths."""
    tasks = generate(400, split="train", seed=0, settings=replace(sizes, length=(1, *LENGTHS)))
    corpus = task_corpus((task.public, task.hidden, task.workspace) for task in tasks)
    template = ROOT / "train" / "models" / "templates" / "tiny.jinja"
    return ChatFormat(train_tokenizer(corpus), template=template.read_text())


def list_scripts(chat: ChatFormat) -> dict[str, MakeScript]:
    """Return the scripts that are played, by name."""
    return {
        "shown_only": lambda task, limits: shown_only(task.hidden, chat=chat, limits=limits),
        "note": lambda _, limits: sighted(chat=chat, limits=limits, habit="note"),
        "compact": lambda _, limits: sighted(chat=chat, limits=limits, habit="compact"),
    }


def play(task: BuiltTask, make_script: MakeScript, chat: ChatFormat, limits: Limits) -> bool:
    """Tell whether a script solves a task."""
    environment = Environment(
        task.public,
        task.workspace,
        chat=chat,
        system=system_prompt("none", example=chat.example),
        limits=limits,
        strategy="learned",
    )
    script = make_script(task, limits)
    policy = ScriptedPolicy(script, chat=chat, max_new_tokens=limits.max_new_tokens)
    environment.play_out(policy.next_sample)
    is_submitted = environment.stop_reason is StopReason.SUBMITTED
    return is_submitted and environment.workspace.files == apply_gold(task)


def draw_window(task: BuiltTask, chat: ChatFormat, rng: random.Random) -> tuple[int, int] | None:
    """Return a window that needs a rewrite, and the least that needs none; None if none does."""
    peak = measure_least_peak(
        task.public,
        task.hidden,
        task.workspace,
        chat=chat,
        system=system_prompt("none", example=chat.example),
        limits=LIMITS,
    )
    if peak.window is None:
        return None
    least = round(LEAST_SHARES[task.public.difficulty.files] * peak.window)
    return rng.randint(least, peak.window - 1), peak.window


def measure_guess(task: BuiltTask) -> float:
    """Return how likely it is that all facts are guessed from the symptoms."""
    visible = {case.function: case for case in task.public.visible_cases}
    likely = 1.0
    for span in task.hidden.gold_spans[::2]:
        lines = source_lines(task.workspace[span.path])[span.start - 1 : span.end]
        found, name = read_use(lines[1].strip(' "')), re.match(r"def (\w+)", lines[0])
        assert found is not None and name is not None, "a long task's broken function"
        combination, use = found
        case = visible[f"{span.path.removesuffix('.py')}:{name[1]}"]
        values = (
            load_function(use.write("f", combination, value))(*case.args)
            for value in list_values(use.kind)
        )
        likely /= sum(encode_value(value) == case.expected for value in values)
    return likely


def name_task(task: BuiltTask, chat: ChatFormat, *further: object) -> str:
    """Return a name for a task as it is, in these limits and tokens: rows are of no other."""
    facts = [chat.digest, asdict(LIMITS), task.public.statement, task.workspace, *further]
    return hash_text(to_json([*facts, task.hidden.gold_patch]))[:16]


def measure(task: BuiltTask, chat: ChatFormat, grader: Grader) -> Row:
    """Return the row of a task."""
    (checked,) = validate([task], grader=grader)
    row: Row = {"counts": checked.reject is None, "guess": measure_guess(task)}
    drawn = draw_window(task, chat, random.Random(task.public.id))
    if drawn is None:
        return row
    limits = replace(LIMITS, window_tokens=drawn[0])
    scripts = list_scripts(chat).items()
    solved = {name: play(task, make_script, chat, limits) for name, make_script in scripts}
    return {**row, "window": drawn[0], "least": drawn[1], "solved": solved}


def describe(length: int, rows: Sequence[Row]) -> str:
    """Return a line of the table."""
    tight = [row for row in rows if "window" in row]
    shares = [_percent([row["solved"][name] for row in tight]) for name in NAMES]
    cells = [
        str(length),
        f"{sum(row['counts'] for row in rows)} of {len(rows)}",
        str(len(tight)),
        f"{statistics.mean(row['least'] for row in tight):.0f}",
        f"{statistics.mean(row['window'] for row in tight):.0f}",
        *shares,
        _percent(list(map(_is_solvable, tight))),
        f"{100 * statistics.mean(row['guess'] for row in rows):.1f} %",
    ]
    return f"| {' | '.join(cells)} |"


def is_good(rows: Sequence[Row]) -> bool:
    """Tell whether all came through the gate and were solved, nearly all with what was seen."""
    tight = [row for row in rows if "window" in row]
    return (
        all(row["counts"] for row in rows)
        and all(row["solved"]["shown_only"] for row in tight)
        and sum(map(_is_solvable, tight)) >= 0.95 * len(tight) > 0
    )


def _is_solvable(row: Mapping[str, Any]) -> bool:
    return bool(row["solved"]["note"] or row["solved"]["compact"])


def _percent(found: Sequence[bool]) -> str:
    return f"{100 * sum(found) / max(1, len(found)):.1f} %"


def main() -> int:
    """Measure all lengths, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=500, help="of each length")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--distractors", type=int, default=DEFAULTS.distractors)
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which none is begun")
    parser.add_argument("--rows", type=Path, default=ROOT / "runs" / "long_tasks.jsonl")
    parser.add_argument("--out", type=Path, help="where to write the table as Markdown")
    asked = parser.parse_args()
    sizes = replace(SIZES, distractors=asked.distractors)
    chat, ends, all_good = make_chat(sizes), time.monotonic() + asked.seconds, True
    heads = ["length", "through the gate", "need a rewrite", "least window without", "window"]
    heads += [*NAMES, "note or compact", "guessed"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for length in asked.lengths:
        made = replace(sizes, length=(length,))
        tasks = list(generate(asked.tasks, split="test", seed=0, settings=made))
        named = {name_task(task, chat, LEAST_SHARES[length]): task for task in tasks}
        with make_grader(TaskStore.of(tasks)) as grader:

            def measure_one(
                spec: Spec, named: Mapping[str, BuiltTask] = named, grader: Grader = grader
            ) -> Row:
                return measure(named[spec["task"]], chat, grader)

            specs = [{"length": length, "task": name} for name in named]
            left = ends - time.monotonic()
            rows = collect(specs, measure_one, kept=asked.rows, budget_s=left)
        all_good &= is_good(rows) and len(rows) == asked.tasks
        if rows:
            lines.append(describe(length, rows))
            print(lines[-1], flush=True)
    if asked.out:
        command = f"`python benchmarks/long_tasks.py {' '.join(sys.argv[1:])}`"
        asked.out.write_text(f"# Long tasks\n\n{command}\n\n" + "\n".join(lines) + "\n")
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
