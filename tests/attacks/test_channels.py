"""Two runs side by side in one server tell each other nothing by what could be told without it."""

import contextlib
import secrets

import pytest

from envs.sandbox.levels import Layers, ServerProcess, probe
from tests.attacks.channels import (
    CHANNELS,
    LEAST_OUTSIDE,
    OUT_OF_REACH,
    count_right,
    list_moved,
    list_moved_outside,
    play_in,
    write_program,
)


def make_program() -> str:
    return write_program(secrets.token_hex(4), 20_000 + secrets.randbelow(10_000))


def test_without_a_sandbox_most_channels_move_bits() -> None:
    moved = list_moved_outside(make_program())
    assert len(moved) >= LEAST_OUTSIDE, set(CHANNELS) - set(moved)


@pytest.mark.parametrize("level", ["best", "lowest"])
def test_two_runs_at_once_move_no_bit(level: str) -> None:
    lowest = Layers(namespaces=False, landlock=True, drop_uid=False)
    layers, known = (probe().require(), set()) if level == "best" else (lowest, OUT_OF_REACH)
    if not layers.namespaces:
        known = OUT_OF_REACH
    with contextlib.closing(ServerProcess(layers, preload="pytest")) as server:
        moved = list_moved(play_in(server, make_program()))
    assert set(moved) <= known


def test_bits_are_told_by_the_best_threshold() -> None:
    bits = [0, 1, 1, 0]
    assert count_right([7, 7, 7, 7], bits) == 2
    assert count_right([3, 9, 8, 2], bits) == 4
    assert count_right([9, 3, 2, 8], bits) == 4
