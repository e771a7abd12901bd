"""What is to run on a GPU runs on a CPU, keeps its rows, and says what it cannot measure."""

import json
from pathlib import Path

from benchmarks.gpu import main


def test_every_row_is_measured_or_says_why_and_is_not_measured_again(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "gpu.md"
    line = ["--size", "tiny", "--rows", str(rows), "--out", str(out)]
    assert main([*line, "--budget_s", "1e9"]) == 0
    found = [json.loads(row) for row in rows.read_text().split("\n") if row]
    kinds = {row["spec"]["what"] for row in found}
    assert kinds == {"training", "step", "generation", "four_bits"}
    for row in found:
        if "reason" not in row:
            assert row["tokens_per_s"] > 0 and row["peak_gb"] > 0
    reasons = {row["reason"] for row in found if "reason" in row}
    assert {"no vLLM backend", "4 bits need a GPU"} <= reasons
    assert len(found) - len([row for row in found if "reason" in row]) == 6
    text = out.read_text()
    assert "no vLLM backend" in text and "tokens_per_s" in text
    before = rows.read_bytes()
    assert main([*line, "--budget_s", "0"]) == 0, "all is there"
    assert rows.read_bytes() == before
