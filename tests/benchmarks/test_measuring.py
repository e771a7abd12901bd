"""Rows are kept one by one, ratios have intervals, and a stopwatch leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measuring import (
    Stopwatch,
    collect,
    estimate_ratio,
    measure_alone,
    peak_bytes,
    reset_peak,
)


def test_what_was_measured_is_kept_when_the_next_one_fails(tmp_path: Path) -> None:
    kept, asked = tmp_path / "rows.jsonl", []

    def measure(spec: Any) -> dict[str, Any]:
        asked.append(spec["n"])
        if asked == [1, 2]:
            raise KeyboardInterrupt
        return {"square": spec["n"] ** 2}

    specs = [{"n": n} for n in (1, 2, 3)]
    with pytest.raises(KeyboardInterrupt):
        collect(specs, measure, kept=kept)
    assert collect(specs, measure, kept=kept, budget_s=-1)[0]["square"] == 1
    assert asked == [1, 2], "with no time left nothing is begun"
    rows = collect(specs, measure, kept=kept)
    assert [row["square"] for row in rows] == [1, 4, 9] and asked == [1, 2, 2, 3]


def test_a_row_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint('noise')\nprint(sys.argv[-1])\n")
    assert measure_alone(str(script), {"n": 1}, "--flag") == {"n": 1}


def test_a_ratio_is_geometric_and_its_interval_holds_it() -> None:
    ratio = estimate_ratio([(2.0, 1.0), (8.0, 1.0)])
    low, high = ratio.ci95
    assert ratio.value == pytest.approx(4.0)
    assert low is not None and high is not None and low < 4 < high
    assert estimate_ratio([(3.0, 1.0)]).ci95 == (None, None)


def test_a_stopwatch_adds_up_and_ends() -> None:
    class Worker:
        def work(self, number: int) -> int:
            return number + 1

    method = Worker.work
    with Stopwatch() as watch:
        watch.time(Worker, "work", "work")
        assert Worker().work(1) + Worker().work(2) == 5
        assert 0 < watch.seconds["work"] < 1
    assert Worker.work is method


def test_a_peak_counts_from_where_it_was_forgotten() -> None:
    held = reset_peak()
    block = bytearray(b"1" * 64_000_000)
    del block
    assert peak_bytes() - held > 50_000_000
    assert json.dumps(held)
