"""Every cell of the study is an experiment that loads; goals are judged, the missing is named."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.any_project import ROOT
from benchmarks.cells import Cell, Place
from benchmarks.study import SHARED, SMALL, plan_study, widen
from benchmarks.study_report import GOALS, WIDE, judge_goals, write_report
from train.config.settings import OfLeastPeak

TINY = ROOT / "configs" / "tiny.yaml"
MULTIPLES = "--context.window_tokens={of_least_peak: [0.6, 1.2], at_most: 640}"


@pytest.mark.parametrize("is_small", [False, True], ids=["whole", "smoke"])
def test_every_cell_is_an_experiment_and_all_are_missing_at_first(
    is_small: bool, tmp_path: Path
) -> None:
    place = Place(tmp_path, TINY, SMALL if is_small else SHARED)
    study = plan_study(place, [0], is_small=is_small)
    names = [cell.name for cell in study.cells]
    assert len(set(names)) == len(names) and names[0] == "learned0"
    strategies = {each.name: place.settings(each).context.strategy for each in study.cells}
    assert {strategies[f"{name}0"] for name in ("mask", "summarize", "hybrid")} == {
        "mask",
        "summarize",
        "hybrid",
    }
    assert study.is_open
    text = "\n".join(write_report(study, []))
    assert all(name in text.partition("**Missing cells")[2].partition("**")[0] for name in names)
    assert text.count("not judged") == len(GOALS)


def test_arms_at_w_meet_equal_windows_and_the_wide_one_four_times_as_large(tmp_path: Path) -> None:
    place = Place(tmp_path, TINY, SHARED)
    study = plan_study(place, [0], is_small=False)
    windows = {cell.name: place.settings(cell).context.window_tokens for cell in study.arms}
    wide = windows.pop(f"{WIDE}0")
    assert len({str(each) for each in windows.values()}) == 1
    settings = place.settings(Cell("any", 0))
    most = settings.sft.tokens_per_batch
    if isinstance(wide, tuple):
        low, high = windows["learned0"]  # type: ignore[misc]
        assert wide == (4 * low, min(4 * high, most))
    multiples = place.settings(Cell("any", 0, (MULTIPLES, "--context.needs_rewrite_share=null")))
    overridden = place.settings(Cell("any", 0, widen(multiples)))
    asked = overridden.context.window_tokens
    assert isinstance(asked, OfLeastPeak) and asked.of_least_peak == (2.4, 4.8)


def compared(**numbers: tuple[float, float, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"num_seeds": 3}
    for name in ("pass_rate_difference", "tokens_per_solved_ratio", "peak_context_ratio"):
        value, low, high = numbers.get(name, (0.0, 0.0, 0.0))
        row |= {name: value, f"{name}_ci95": [low, high]}
    return row


def test_goals_are_met_by_intervals_by_values_or_not() -> None:
    wide = compared(
        pass_rate_difference=(0.0, -0.04, 0.04),
        peak_context_ratio=(0.3, 0.25, 0.33),
        tokens_per_solved_ratio=(0.45, 0.35, 0.55),
    )
    mask = compared(
        pass_rate_difference=(-0.01, -0.1, 0.1), tokens_per_solved_ratio=(0.9, 0.7, 1.1)
    )
    lines = judge_goals({WIDE: wide, "mask": mask}, [0, 1, 2])
    said = [line.partition("**")[2].partition("**")[0] for line in lines]
    assert said[:3] == ["NOT met", "met", "met by the value, not by its interval"]
    assert said[3:5] == ["NOT met"] * 2
    assert said[5:] == ["not judged"] * 2
    assert "a claim takes 5" in lines[1]
    wide = compared(pass_rate_difference=(0.0, -0.02, 0.02)) | {"num_seeds": 5}
    (first, *_) = judge_goals({WIDE: wide}, range(5))
    assert "**met**" in first and "claim" not in first
    assert "not judged" in judge_goals({WIDE: compared()}, range(5))[0], "two seeds are missing"
