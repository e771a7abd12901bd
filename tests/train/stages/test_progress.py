"""Progress lines: never silent for long, never a flood, honest about the time left."""

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.stages.progress import Progress, duration, size


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_says_what_how_far_and_how_long() -> None:
    clock = Clock()
    progress = Progress("warm start", total=60, clock=clock, stream=io.StringIO())
    progress.update(0)
    assert progress.line() == "warm start: 0/60 steps (0 %), 0s so far"
    clock.now = 30.0
    progress.update(20, note="loss 0.8")
    assert progress.line() == "warm start: 20/60 steps (33 %), 1m00s left | loss 0.8"
    assert progress.line(last=True) == "warm start: 20/60 steps (33 %), took 30s | loss 0.8"


@given(
    found=st.integers(0, 10_000),
    begin_s=st.floats(0, 600),
    step_s=st.floats(0.001, 600),
    num_steps=st.integers(1, 400),
    chunk=st.integers(1, 5),
)
def test_what_was_found_done_counts_as_nobodys_work(
    found: int, begin_s: float, step_s: float, num_steps: int, chunk: int
) -> None:
    """A run taken up at any step, after any start, shows the pace of its own steps."""
    clock, total = Clock(), found + chunk * num_steps + 70
    progress = Progress("x", total=total, clock=clock, stream=io.StringIO(), every_s=1e9)
    clock.now = begin_s
    progress.update(found)
    assert progress.left_s() is None
    for number in range(1, num_steps + 1):
        clock.now += chunk * step_s
        progress.update(found + chunk * number)
        left_s = step_s * (total - found - chunk * number)
        assert progress.left_s() == pytest.approx(left_s, rel=1e-6)
    clock.now += chunk * step_s / 2  # within a step, the time that it already took is taken off
    assert progress.left_s() == pytest.approx(left_s - chunk * step_s / 2, rel=1e-6)
    clock.now += 1000 * chunk * step_s  # a step that hangs promises nothing better
    assert progress.left_s() > left_s


@given(first=st.integers(1, 50), slow=st.floats(2, 100), num_steps=st.integers(1, 200))
def test_a_slow_beginning_is_forgotten(first: int, slow: float, num_steps: int) -> None:
    clock = Clock()
    progress = Progress("x", total=1000, clock=clock, stream=io.StringIO(), every_s=1e9)
    progress.update(0)
    for done in range(1, first + 1):
        clock.now += slow
        progress.update(done)
    while clock.now < 2.1 * first * slow:  # as long again, at 1 s a step
        clock.now += 1.0
        progress.advance()
        progress.total = progress.done + num_steps
    assert progress.left_s() == pytest.approx(num_steps, rel=0.35)


def test_steps_that_are_counted_one_by_one_are_work_from_the_beginning() -> None:
    clock = Clock()
    progress = Progress("x", total=4, clock=clock, stream=io.StringIO())
    clock.now = 10.0
    progress.advance()
    assert progress.left_s() == 30.0


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


def test_sizes_read_well() -> None:
    assert [size(each) for each in (0, 36_864, 99e6, 1.34e9)] == [
        "0.00 MB",
        "0.04 MB",
        "99.00 MB",
        "1.34 GB",
    ]


def test_durations_read_well() -> None:
    assert [duration(s) for s in (0.4, 12, 59.6, 185, 7620)] == [
        "0s",
        "12s",
        "1m00s",
        "3m05s",
        "2h07m",
    ]
