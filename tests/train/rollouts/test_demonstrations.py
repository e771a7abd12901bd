"""What counts as a demonstration."""

import asyncio
import random

import pytest

from envs.policies import ScriptOptions
from envs.records import Episode
from tests.envs.world import TASK
from tests.train.rollouts.test_runner import REQUEST, Flaky, runner_with
from train.rollouts.demonstrations import _find_fault, _Slot
from train.rollouts.runner import RolloutRunner


def played(runner: RolloutRunner, name: str, options: ScriptOptions | None = None) -> Episode:
    script = lambda request: runner.make_script(TASK.id, name, options=options)  # noqa: E731
    return asyncio.run(runner.play(REQUEST, script, policy=name))


def slot(rewrite: str, kind: str = "careful") -> _Slot:
    return _Slot(0, "train", kind, False, rewrite, random.Random(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("noop", None, "unsolved"),
        ("gold", None, "unseen"),  # it knows the answer and looks at nothing
        ("careful", ScriptOptions(rewrite="compact", eager=True), "compacts"),
        ("careful", ScriptOptions(rewrite="evict", eager=True), None),
        ("careful", ScriptOptions(rewrite="none", find="file"), None),
    ],
)
def test_a_demonstration_is_solved_with_open_eyes_and_as_its_slot_says(
    name: str, options: ScriptOptions | None, fault: str | None
) -> None:
    runner = runner_with(Flaky())
    assert _find_fault(runner, slot("evict"), played(runner, name, options)) == fault


def test_only_a_slot_for_careful_evicting_refuses_compaction() -> None:
    runner = runner_with(Flaky())
    episode = played(runner, "careful", ScriptOptions(rewrite="compact", eager=True))
    assert _find_fault(runner, slot("compact"), episode) is None
    assert _find_fault(runner, slot("evict", "wasteful"), episode) is None
