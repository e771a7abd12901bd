"""Kills a GRPO run at random moments, resumes it each time, and compares with an undisturbed run.

    python benchmarks/crash.py --out benchmarks/results/crash.md

Takes about 8 minutes on 2 idle CPU cores. Uses the smoke configuration, whose ablation gives every
step a gradient. Three runs are disturbed: `kill -9` in deterministic mode and SIGTERM in
deterministic mode (metrics without time fields, episodes and adapter must equal the undisturbed
run's, byte for byte), `kill -9` in the usual mode (nothing may be lost or doubled). A moment is a
random step and a random share of that step's time.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DETERMINISTIC = "--run.deterministic=true"
RUNS: dict[str, tuple[int, list[str]]] = {
    "killed": (signal.SIGKILL, [DETERMINISTIC]),
    "terminated": (signal.SIGTERM, [DETERMINISTIC]),
    "killed-usual": (signal.SIGKILL, []),
}


@dataclass(frozen=True)
class Place:
    """Where the runs live, and how long they are."""

    folder: Path
    num_steps: int

    def arguments(self, name: str) -> list[str]:
        """Return the configuration of one run."""
        return [
            f"--config={ROOT / 'configs' / 'smoke.yaml'}",
            f"--run.dir={self.folder / 'runs'}",
            f"--run.cache={self.folder / 'cache'}",
            f"--run.name={name}",
            f"--grpo.max_steps={self.num_steps}",
            "--grpo.evaluate_every=10",
            "--checkpoints.every=3",
        ]

    def grpo(self, name: str) -> Path:
        """Return the stage's directory."""
        return self.folder / "runs" / name / "grpo"


def prepare(place: Place, name: str) -> None:
    """Make the stages before GRPO once; later runs link to them."""
    made = place.folder / "runs" / "base"
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


def num_rows(place: Place, name: str) -> int:
    """Return how many steps are in the metrics."""
    path = place.grpo(name) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def run_undisturbed(place: Place, name: str, *flags: str) -> float:
    """Run to the end; returns the median seconds per step."""
    prepare(place, name)
    process = start(place, name, *flags)
    assert process.wait() == 0, f"see {place.folder / name}.log"
    rows = read_rows(place, name)
    seconds = sorted(row["seconds/rollout"] + row["seconds/learn"] for row in rows)
    return float(seconds[len(seconds) // 2])


def run_disturbed(
    place: Place, name: str, *flags: str, number: int, num_times: int, step_s: float, seed: int
) -> list[int]:
    """Run to the end through `num_times` signals; returns the exit codes."""
    prepare(place, name)
    rng = random.Random(seed)
    steps = sorted(rng.randrange(place.num_steps) for _ in range(num_times))
    codes = []
    for count, step in enumerate(steps):
        process = start(place, name, *flags, *(["--resume"] if count else []))
        while num_rows(place, name) < step and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.2) * step_s + (rng.uniform(0, 8) if step == 0 else 0))
        if number == signal.SIGTERM:
            while not ready_for_signal(place, name) and process.poll() is None:
                time.sleep(0.05)
        process.send_signal(number)
        codes.append(process.wait())
        print(f"{name}: signal {count + 1} of {num_times} at step {num_rows(place, name)}")
    process = start(place, name, *flags, "--resume")
    codes.append(process.wait())
    return codes


def ready_for_signal(place: Place, name: str) -> bool:
    """Tell whether training has begun: before, SIGTERM ends the process as it does any other."""
    return (place.grpo(name) / "dev.jsonl").exists()


def read_rows(place: Place, name: str) -> list[dict[str, float]]:
    """Read the metrics."""
    text = (place.grpo(name) / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def differences(place: Place, first: str, second: str) -> list[str]:
    """Return what differs between two finished runs, time fields apart."""
    found = []
    rows = [
        [{k: v for k, v in row.items() if "seconds" not in k} for row in read_rows(place, name)]
        for name in (first, second)
    ]
    if rows[0] != rows[1]:
        found.append("metrics")
    names = ["adapter/adapter_model.safetensors", "dev.jsonl"]
    names += [f"episodes/step_{step:05d}.jsonl" for step in range(1, place.num_steps + 1)]
    for name in names:
        files = [place.grpo(run) / name for run in (first, second)]
        if not all(f.exists() for f in files) or files[0].read_bytes() != files[1].read_bytes():
            found.append(name)
    return found


def losses(place: Place, name: str, *, episodes_per_step: int) -> list[str]:
    """Return what a run lost or doubled."""
    found = []
    if [row["step"] for row in read_rows(place, name)] != list(range(1, place.num_steps + 1)):
        found.append("metrics rows")
    paths = sorted((place.grpo(name) / "episodes").glob("step_*.jsonl"))
    keys = []
    for path in paths:
        episodes = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        keys += [(episode["group_id"], episode["sample_index"]) for episode in episodes]
    if len(keys) != len(set(keys)) or len(keys) != place.num_steps * episodes_per_step:
        found.append(f"{len(keys)} episodes, {len(set(keys))} distinct")
    return found


def main() -> int:
    """Run all and write the table; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(description="Kill and resume a GRPO run, compare the result.")
    parser.add_argument("--folder", type=Path, default=Path("runs/crash"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/crash.md"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    given = parser.parse_args()
    place = Place(given.folder.resolve(), given.steps)
    os.environ.pop("TIGHTROPE_CACHE", None)
    step_s = run_undisturbed(place, "undisturbed", DETERMINISTIC)
    common = {"num_times": given.times, "step_s": step_s, "seed": given.seed}
    rows = []
    for name in given.runs:
        number, flags = RUNS[name]
        codes = run_disturbed(place, name, *flags, number=number, **common)  # type: ignore[arg-type]
        found = losses(place, name, episodes_per_step=8)
        if flags:
            found += differences(place, "undisturbed", name)
        rows.append((name, len(codes) - 1, sorted(set(codes[:-1])), codes[-1], found))
    lines = [
        f"# {given.times} random interruptions of {given.steps} GRPO steps",
        "",
        f"`python benchmarks/crash.py --seed {given.seed}`; {step_s:.2f} s per step (median).",
        "",
        "| run | signals | exit codes | last exit code | lost, doubled or different |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {num} | {codes} | {last} | {', '.join(found) or 'nothing'} |"
            for name, num, codes, last, found in rows
        ),
    ]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return int(any(found or last for *_, last, found in rows))


if __name__ == "__main__":
    sys.exit(main())
