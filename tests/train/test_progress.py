"""Progress lines: never silent for long, never a flood, honest about the time left."""

import io
import time

from hypothesis import given
from hypothesis import strategies as st

from train.progress import Progress, duration, track


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_says_what_how_far_and_how_long() -> None:
    clock = Clock()
    progress = Progress("warm start", total=60, clock=clock, stream=io.StringIO())
    clock.now = 30.0
    progress.update(20, note="loss 0.8")
    assert progress.line() == "warm start: 20/60 steps (33 %), 1m00s left | loss 0.8"
    assert progress.line(last=True) == "warm start: 20/60 steps (33 %), took 30s | loss 0.8"


def test_the_time_left_counts_only_what_this_run_did() -> None:
    clock = Clock()
    progress = Progress("x", total=60, start=50, clock=clock, stream=io.StringIO())
    assert progress.left_s() is None
    clock.now = 10.0
    progress.update(55)
    assert progress.left_s() == 10.0


@given(st.lists(st.floats(min_value=0.01, max_value=9.0), min_size=1, max_size=60))
def test_gaps_stay_under_10_s_and_lines_are_few(gaps: list[float]) -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress("x", clock=clock, stream=stream, every_s=1.0)
    for number, gap in enumerate(gaps, start=1):
        clock.now += gap
        progress.update(number)
    written = len(stream.getvalue().splitlines())
    assert written <= sum(gaps) / 1.0
    assert written >= sum(gap >= 1.0 for gap in gaps)


def test_a_long_silent_step_still_writes() -> None:
    stream = io.StringIO()
    with Progress("long step", total=1, every_s=0.05, stream=stream):
        time.sleep(0.4)
    assert len(stream.getvalue().splitlines()) >= 4


def test_other_processes_stay_silent() -> None:
    stream = io.StringIO()
    with Progress("x", total=2, enabled=False, stream=stream, every_s=0.0) as progress:
        progress.update(1)
    assert stream.getvalue() == ""


def test_track_yields_everything(capsys) -> None:
    assert list(track([1, 2, 3], "count")) == [1, 2, 3]
    assert "count: 3/3 items (100 %), took" in capsys.readouterr().err


def test_durations_read_well() -> None:
    assert [duration(s) for s in (0.4, 12, 59.6, 185, 7620)] == [
        "0s",
        "12s",
        "1m00s",
        "3m05s",
        "2h07m",
    ]
