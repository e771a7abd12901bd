"""Kills a GRPO run at random moments, resumes it each time, and compares with an undisturbed run.

    python benchmarks/crash.py --out benchmarks/results/crash.md

With the smoke configuration, whose ablation gives every step a gradient, about 15 minutes on 2 idle
CPU cores; it solves nothing. With `--config configs/tiny.yaml --start runs/demo` it goes on from a
warm start that solves tasks and rewrites contexts. Five runs are disturbed: `kill -9` and SIGTERM
in deterministic mode (metrics without time fields, episodes, the last checkpoint's adapter and the
result must equal the undisturbed run's, byte for byte), `kill -9` in the usual mode (nothing may be
lost or doubled); and `kill -9` in both modes while the next step's episodes are played ahead
(`rollouts.max_staleness: 1`). A moment is a random step and a random share of that step's time;
each launch gets at least one step done before. With `--budget-s` it ends when that time is used up,
and the same command goes on with the next signal.
"""

import argparse
import math
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envs import files
from train.stages.run_dir import StageDir, stage_in

ROOT = Path(__file__).resolve().parents[1]
DETERMINISTIC = "--run.deterministic=true"
STALE = "--rollouts.max_staleness=1"
RUNS: dict[str, tuple[int, list[str]]] = {
    "killed": (signal.SIGKILL, [DETERMINISTIC]),
    "terminated": (signal.SIGTERM, [DETERMINISTIC]),
    "killed-usual": (signal.SIGKILL, []),
    "killed-stale": (signal.SIGKILL, [DETERMINISTIC, STALE]),
    "killed-stale-usual": (signal.SIGKILL, [STALE]),
}
UNSAVED = -100  # stands for the exit code of a SIGTERM after which something was not saved


@dataclass(frozen=True)
class Place:
    """Where the runs live, and how long they are."""

    folder: Path
    num_steps: int
    config: Path
    start: Path | None
    settings: tuple[str, ...] = ()

    def arguments(self, name: str) -> list[str]:
        """Return the configuration of one run."""
        cache = [] if self.start else [f"--run.cache={self.folder / 'cache'}"]
        return [
            f"--config={self.config}",
            f"--run.dir={self.folder / 'runs'}",
            *cache,
            f"--run.name={name}",
            "--grpo.groups_per_step=2",
            "--grpo.group_size=4",
            f"--grpo.max_steps={self.num_steps}",
            "--grpo.evaluate_every=10",
            "--checkpoints.every=3",
            *self.settings,
        ]

    @property
    def signals(self) -> Path:
        """A row per signal: which run, and the exit code; and one per run for its own end."""
        return self.folder / "signals.jsonl"

    def grpo(self, name: str) -> Path:
        """Return the stage's directory."""
        return self.stage(name).path

    def stage(self, name: str) -> StageDir:
        """Return the stage."""
        return stage_in(self.folder / "runs" / name, "grpo")


def prepare(place: Place, name: str) -> None:
    """Make the stages before GRPO once; later runs link to them."""
    made = place.start or place.folder / "runs" / "base"
    if not (made / "sft" / "done").exists():
        main = str(ROOT / "scripts" / "main.py")
        arguments = place.arguments("base")
        for line in (
            [sys.executable, main, "tasks", "build", *arguments],
            [sys.executable, main, "demos", *arguments, "--clean"],
            [sys.executable, str(ROOT / "train" / "sft.py"), *arguments, "--clean"],
        ):
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    run = place.folder / "runs" / name
    run.mkdir(parents=True, exist_ok=True)
    for stage in ("demos", "sft"):
        if not (run / stage).exists():
            (run / stage).symlink_to(made / stage)


def start(place: Place, name: str, *flags: str) -> "subprocess.Popen[bytes]":
    """Start GRPO in a process of its own."""
    line = [sys.executable, str(ROOT / "train" / "grpo.py"), *place.arguments(name), "--force"]
    return subprocess.Popen([*line, *flags], stderr=(place.folder / f"{name}.log").open("ab"))


def num_steps_since(place: Place, name: str, began: float) -> int:
    """Return how many steps are in the metrics, 0 unless a launch at `began` added to them."""
    path = place.grpo(name) / "metrics.jsonl"
    if not path.exists() or path.stat().st_mtime < began:
        return 0
    rows = files.read_lines(path)
    new = place.stage(name).episode_file(len(rows))
    return len(rows) if new.exists() and new.stat().st_mtime >= began else 0


def undisturbed(flags: Sequence[str]) -> str:
    """Return the name of the run that one with these flags is compared with."""
    return "undisturbed-stale" if STALE in flags else "undisturbed"


def run_undisturbed(place: Place, name: str) -> float:
    """Run to the end, unless that was done; returns the median seconds per step."""
    if not (place.grpo(name) / "done").exists():
        shutil.rmtree(place.grpo(name), ignore_errors=True)  # one that was ended is disturbed
        prepare(place, name)
        flags = [DETERMINISTIC, *([STALE] if name == undisturbed([STALE]) else [])]
        assert start(place, name, *flags).wait() == 0, f"see {place.folder / name}.log"
    rows = read_rows(place, name)
    seconds = sorted(row["seconds/rollout"] + row["seconds/learn"] for row in rows)
    return float(seconds[len(seconds) // 2])


def run_disturbed(
    place: Place,
    name: str,
    *flags: str,
    number: int,
    num_times: int,
    step_s: float,
    seed: int,
    ends_at: float,
) -> list[int] | None:
    """Run to the end through `num_times` signals; returns the exit codes, the run's own last.

    A signal that comes after the end interrupts nothing: it is not counted, and the run is not
    signalled again. After a SIGTERM the last checkpoint must be that of the last step.

    Returns:
        None if the time is used up; signals so far are kept.
    """
    prepare(place, name)
    rng = random.Random(seed)
    steps = sorted(rng.randrange(place.num_steps) for _ in range(num_times))
    before = [row for row in files.read_rows(place.signals) if row["run"] == name]
    codes = [row["code"] for row in before if not row["is_end"]]
    ended = [row["code"] for row in before if row["is_end"]]
    while len(codes) < num_times and not ended:
        if time.monotonic() > ends_at:
            return None
        after_s = random.Random(f"{seed}/{name}/{len(codes)}").uniform(0, 1.2) * step_s
        step = steps[len(codes)]
        code = _interrupt(place, name, *flags, number=number, step=step, after_s=after_s)
        if code is None:
            break
        codes.append(code)
        files.append_row(place.signals, {"run": name, "code": code, "is_end": False})
        print(f"{name}: signal {len(codes)} of {num_times}, exit code {code}", flush=True)
    if not ended:
        ended = [start(place, name, *flags, "--resume").wait()]
        files.append_row(place.signals, {"run": name, "code": ended[0], "is_end": True})
    return [*codes, ended[0]]


def _interrupt(
    place: Place, name: str, *flags: str, number: int, step: int, after_s: float
) -> int | None:
    """Begin or go on, and send a signal some time after a step; returns the exit code.

    None if the run came to its end before.
    """
    began = time.time()
    goes_on = place.grpo(name).exists()
    process = start(place, name, *flags, *(["--resume"] if goes_on else []))
    while num_steps_since(place, name, began) < max(1, step) and process.poll() is None:
        time.sleep(0.01)
    moment = time.monotonic() + after_s
    last = place.num_steps - 1  # on a machine that has become less busy a step takes less
    while time.monotonic() < moment and num_steps_since(place, name, began) < last:
        time.sleep(0.01)
    process.send_signal(number)
    code = process.wait()
    if (place.grpo(name) / "done").exists():
        return None
    seen = num_steps_since(place, name, began)
    if number == signal.SIGTERM and last_checkpoint(place, name) != len(read_rows(place, name)):
        print(f"{name}: step {seen} was not saved", flush=True)
        return UNSAVED
    print(f"{name}: interrupted after step {seen}", flush=True)
    return code


def last_checkpoint(place: Place, name: str) -> int:
    """Return the step of the latest whole checkpoint."""
    found = (place.grpo(name) / "checkpoints").glob("checkpoint-*")
    return max((int(path.name.removeprefix("checkpoint-")) for path in found), default=0)


def read_rows(place: Place, name: str) -> list[dict[str, float]]:
    """Read the metrics."""
    return files.read_rows(place.grpo(name) / "metrics.jsonl")


def differences(place: Place, first: str, second: str) -> list[str]:
    """Return what differs between two finished runs, time fields apart."""
    found = []
    rows = [
        [{k: v for k, v in row.items() if "seconds" not in k} for row in read_rows(place, name)]
        for name in (first, second)
    ]
    if rows[0] != rows[1]:
        found.append("metrics")
    last = f"checkpoints/checkpoint-{place.num_steps}"
    names = [f"{folder}/adapter_model.safetensors" for folder in ("adapter", last)]
    names += ["dev.jsonl", "solves.json"]
    folders = [place.grpo(run) / "episodes" for run in (first, second)]
    names += sorted({f"episodes/{path.name}" for folder in folders for path in folder.iterdir()})
    for name in names:
        paths = [place.grpo(run) / name for run in (first, second)]
        one, other = (path.read_bytes() if path.exists() else None for path in paths)
        if one != other:  # without evaluations on dev tasks neither has a file of them
            found.append(name)
    return found


def solved_share(place: Place) -> float:
    """Return the mean pass rate of the undisturbed run."""
    rows = read_rows(place, "undisturbed")
    return sum(row["pass_rate"] for row in rows) / len(rows)


def rewritten_share(place: Place) -> float:
    """Return the mean share of its training rows that come from a rewritten context."""
    rows = read_rows(place, "undisturbed")
    return sum(row["share_rows_rewritten"] for row in rows) / len(rows)


def losses(place: Place, name: str, *, episodes_per_step: int) -> list[str]:
    """Return what a run lost or doubled."""
    found = []
    if [row["step"] for row in read_rows(place, name)] != list(range(1, place.num_steps + 1)):
        found.append("metrics rows")
    stage, keys = place.stage(name), []
    for step in stage.list_episodes("step_"):
        keys += [(each.group_id, each.sample_index) for each in stage.stream_episodes(step)]
    if len(keys) != len(set(keys)) or len(keys) != place.num_steps * episodes_per_step:
        found.append(f"{len(keys)} episodes, {len(set(keys))} distinct")
    if ahead := stage.list_episodes("ahead_"):
        found.append(f"left behind: {', '.join(ahead)}")
    return found


@dataclass(frozen=True)
class Disturbed:
    """What became of a run: exit codes after signals, its own at the end, and what differs."""

    name: str
    codes: Sequence[int]
    last: int
    found: Sequence[str]


def judge(place: Place, name: str, codes: Sequence[int], *, number: int) -> Disturbed:
    """Return what a run lost or doubled, and how it differs from the one without signals."""
    flags = RUNS[name][1]
    found = losses(place, name, episodes_per_step=8)
    if DETERMINISTIC in flags:
        found += differences(place, undisturbed(flags), name)
    if not codes[:-1]:
        found.append("no signal came in time")
    elif set(codes[:-1]) != {0 if number == signal.SIGTERM else -number} or codes[-1]:
        found.append("exit codes")
    return Disturbed(name, codes[:-1], codes[-1], found)


def describe(place: Place, done: Sequence[Disturbed], *, num_times: int, step_s: float) -> str:
    """Return the table of the runs that are done."""
    missing = [name for name in RUNS if name not in [each.name for each in done]]
    lines = [
        f"# {num_times} random interruptions of {place.num_steps} GRPO steps",
        "",
        f"`python benchmarks/crash.py {' '.join(sys.argv[1:])}`; {step_s:.2f} s per step (median); "
        f"pass rate {solved_share(place):.2f}, {rewritten_share(place):.0%} of rows rewritten. "
        f"Not run: {', '.join(missing) or 'none'}.",
        "",
        "| run | signals | exit codes | last exit code | lost, doubled or different |",
        "|---|---|---|---|---|",
        *(
            f"| {each.name} | {len(each.codes)} | {sorted(set(each.codes))} | {each.last} | "
            f"{', '.join(each.found) or 'nothing'} |"
            for each in done
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all and write the table; returns 1 if anything differs or the time was used up."""
    parser = argparse.ArgumentParser(description="Kill and resume a GRPO run, compare the result.")
    parser.add_argument("--folder", type=Path, default=Path("runs/crash"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/crash.md"))
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "smoke.yaml")
    parser.add_argument("--start", type=Path, help="a run whose warm start is used: runs/demo")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", nargs="+", default=[], help="such as grpo.resample=2")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--budget-s", type=float, default=math.inf)
    given = parser.parse_args()
    ends_at = time.monotonic() + given.budget_s
    warm = given.start.resolve() if given.start else None
    more = tuple(f"--{each}" for each in given.settings)
    place = Place(given.folder.resolve(), given.steps, given.config.resolve(), warm, more)
    known, asked = place.folder / "asked.json", f"{place.arguments('')} {given.times} {given.seed}"
    if known.exists() and known.read_text("utf-8") != asked:
        parser.error(f"{place.folder} holds another study: name another --folder")
    files.write_whole(known, asked)
    step_s = run_undisturbed(place, "undisturbed")
    done = []
    for name in given.runs:
        number, flags = RUNS[name]
        if STALE in flags:
            run_undisturbed(place, undisturbed(flags))
        codes = run_disturbed(
            place,
            name,
            *flags,
            number=number,
            num_times=given.times,
            step_s=step_s,
            seed=given.seed,
            ends_at=ends_at,
        )
        if codes is None:
            print("the time is used up: the same command goes on", flush=True)
            break
        done.append(judge(place, name, codes, number=number))
    text = describe(place, done, num_times=given.times, step_s=step_s)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text, encoding="utf-8")
    print(text)
    return int(len(done) < len(given.runs) or any(each.found for each in done))


if __name__ == "__main__":
    sys.exit(main())
