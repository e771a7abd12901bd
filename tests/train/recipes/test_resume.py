"""A run that was killed or terminated and resumed ends as one that nobody disturbed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_interrupted_runs_end_like_the_undisturbed_one(tmp_path: Path) -> None:
    line = "--steps 4 --times 1 --runs killed terminated --seed 3"
    shown = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "crash.py"),
            *line.split(),
            f"--folder={tmp_path / 'runs'}",
            f"--out={tmp_path / 'crash.md'}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr[-3000:]
    text = (tmp_path / "crash.md").read_text()
    assert "| killed | 1 | [-9] | 0 | nothing |" in text
    assert "| terminated | 1 | [0] | 0 | nothing |" in text
