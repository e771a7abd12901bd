"""Least peaks are measured once, and again when anything that they depend on changes."""

from dataclasses import replace
from pathlib import Path

import pytest

from envs.prompts import SYSTEM_SHORT
from tests.envs.readers.long_task import LIMITS, LONG
from tests.envs.world import CHAT
from tests.train.rollouts.test_windows import TwoTasks
from train.rollouts import least_peaks
from train.rollouts.least_peaks import LeastPeaks


def peaks_in(folder: Path | None, *, plain: str = SYSTEM_SHORT, **limits: int) -> LeastPeaks:
    return LeastPeaks(
        TwoTasks(),  # type: ignore[arg-type]
        chats={"learned": CHAT, "full_history": CHAT},
        systems={"learned": SYSTEM_SHORT + " Compact.", "full_history": plain},
        limits=replace(LIMITS, **limits),
        folder=folder,
    )


def refuse(*args: object, **more: object) -> None:
    raise AssertionError("measured again")


def test_a_second_run_reads_what_the_first_has_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = peaks_in(tmp_path).of(LONG.id)
    monkeypatch.setattr(least_peaks, "measure_least_peak", refuse)
    assert peaks_in(tmp_path).of(LONG.id) == found
    with pytest.raises(AssertionError, match="measured again"):
        peaks_in(tmp_path, max_new_tokens=40).of(LONG.id)
    with pytest.raises(AssertionError, match="measured again"):
        peaks_in(tmp_path, plain="Repair.").of(LONG.id)
    with pytest.raises(AssertionError, match="measured again"):
        peaks_in(None).of(LONG.id)


def test_a_row_that_a_kill_cut_short_is_measured_again(tmp_path: Path) -> None:
    first, second = peaks_in(tmp_path), peaks_in(tmp_path)
    found = first.of(LONG.id)
    (path,) = tmp_path.glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    assert second.of(LONG.id) == found
    assert path.read_bytes() == whole[:20] + b"\n" + whole


def test_the_shorter_prompt_makes_for_a_smaller_window(tmp_path: Path) -> None:
    found = peaks_in(tmp_path).of(LONG.id)
    saved = len(CHAT.encode(SYSTEM_SHORT + " Compact.")) - len(CHAT.encode(SYSTEM_SHORT))
    assert found.least_peak - found.unaided == saved > 0
