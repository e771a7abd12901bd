"""Windows bind as often as asked, alike in all processes, and none lies below what is solvable."""

import random
from pathlib import Path

import pytest

from envs.records import HiddenTask, RepairTask
from tests.envs.readers.long_task import FILES, HIDDEN_LONG, LONG
from tests.envs.world import CHAT, HIDDEN, TASK
from tests.envs.world import FILES as SHORT_FILES
from tests.train.small_run import settings_in
from train.config.settings import Settings
from train.rollouts.requests import draw_requests
from train.rollouts.runner import RolloutRunner
from train.rollouts.windows import Windows

RELATIVE = "--context.window_tokens={of_least_peak: [0.5, 2], at_most: 2048}"


class TwoTasks:
    """A long task and a short one."""

    def __init__(self) -> None:
        self.public = {LONG.id: LONG, TASK.id: TASK}
        self.hidden = {LONG.id: HIDDEN_LONG, TASK.id: HIDDEN}

    def split(self, name: str) -> list[RepairTask]:
        return [LONG, TASK] if name == "train" else []

    def workspace(self, task: RepairTask) -> dict[str, str]:
        return dict(FILES if task.id == LONG.id else SHORT_FILES)


def windows_of(settings: Settings) -> Windows:
    return RolloutRunner(TwoTasks(), CHAT, settings, bench=None).windows  # type: ignore[arg-type]


def with_turns(folder: Path, *overrides: str) -> Settings:
    return settings_in(folder, "--context.max_turns=40", *overrides)


def test_multiples_begin_at_the_floor_and_end_at_the_largest_window(tmp_path: Path) -> None:
    asked = "--context.window_tokens={of_least_peak: [0.4, 2], at_most: 2048}"
    windows = windows_of(with_turns(tmp_path, asked))
    task, rng = windows.peaks.of(LONG.id), random.Random(0)
    drawn = {windows.draw(LONG.id, rng) for _ in range(5000)}
    assert 0.4 * task.least_peak < task.floor < task.least_peak
    assert (min(drawn), max(drawn)) == (task.floor, 2 * task.least_peak)
    capped = "--context.window_tokens={of_least_peak: [0.5, 2], at_most: 600}"
    small = windows_of(with_turns(tmp_path, capped))
    assert max(small.draw(LONG.id, rng) for _ in range(3000)) == 600
    batch = windows_of(with_turns(tmp_path, capped, "--grpo.tokens_per_microbatch=700"))
    assert [batch.draw(LONG.id, random.Random(n)) for n in range(9)] == [
        small.draw(LONG.id, random.Random(n)) for n in range(9)
    ], "no batch size changes a window"


@pytest.mark.parametrize("share", [None, 0.5])
def test_no_window_is_drawn_that_needs_a_rewrite_under_one_prompt_only(
    tmp_path: Path, share: float | None
) -> None:
    asked = [] if share is None else [f"--context.needs_rewrite_share={share}"]
    wide = ["--prompt.tools=brief", RELATIVE]
    windows = windows_of(with_turns(tmp_path, *wide, *asked))
    task, rng = windows.peaks.of(LONG.id), random.Random(0)
    assert task.floor < task.unaided < task.least_peak, "the prompt of full_history is shorter"
    drawn = [windows.draw(LONG.id, rng) for _ in range(2000)]
    assert not any(task.unaided <= window < task.least_peak for window in drawn)
    assert {windows.needs_rewrite(LONG.id, window) for window in drawn} >= {True}
    assert windows.needs_rewrite(LONG.id, task.least_peak - 1)
    assert not windows.needs_rewrite(LONG.id, task.least_peak)
    tight = [windows.draw_kind(LONG.id, rng, needs_rewrite=True) or 0 for _ in range(2000)]
    least = max(task.floor, round(task.least_peak / 2))
    assert (min(tight), max(tight)) == (least, task.unaided - 1)


def test_no_window_is_drawn_in_which_nobody_solves(tmp_path: Path) -> None:
    windows = windows_of(with_turns(tmp_path, RELATIVE))
    drawn = [windows.draw(TASK.id, random.Random(seed)) for seed in range(300)]
    assert min(drawn) >= windows.peaks.of(TASK.id).least_peak, "it has nothing to rewrite for"
    assert windows.draw_kind(TASK.id, random.Random(0), needs_rewrite=True) is None


@pytest.mark.parametrize(("asked", "chance", "share"), [(0.2, 0.4, 0.2), (0.9, 1.0, 0.5)])
def test_the_share_that_needs_a_rewrite_is_reached_as_far_as_tasks_allow(
    tmp_path: Path, asked: float, chance: float, share: float
) -> None:
    windows = windows_of(with_turns(tmp_path, RELATIVE, f"--context.needs_rewrite_share={asked}"))
    assert not windows.peaks.knows(TASK.id)
    found = windows.mixture(LONG.id)
    assert windows.peaks.knows(TASK.id), "all of the split are measured, whoever asks"
    assert (found.chance, found.share, found.num_able, found.num_tasks) == (chance, share, 1, 2)
    draws = [windows.draw(LONG.id, random.Random(seed)) for seed in range(400)]
    needing = sum(windows.needs_rewrite(LONG.id, window) for window in draws) / len(draws)
    assert abs(needing - chance) < 0.08
    assert not any(
        windows.needs_rewrite(TASK.id, windows.draw(TASK.id, random.Random(n))) for n in range(99)
    )


def test_absolute_windows_can_be_asked_to_need_a_rewrite_too(tmp_path: Path) -> None:
    sizes = "--context.window_tokens=[336, 1200]"
    windows = windows_of(with_turns(tmp_path, sizes, "--context.needs_rewrite_share=0.5"))
    below, above = windows.split(LONG.id)
    assert below[0] >= windows.peaks.of(LONG.id).floor and above[1] == 1200
    draws = [windows.draw(LONG.id, random.Random(seed)) for seed in range(99)]
    assert all(windows.needs_rewrite(LONG.id, window) for window in draws), "half of two tasks"


def test_a_group_shares_its_window_and_no_seed() -> None:
    def draw(tasks: list[str], **more: int):  # type: ignore[no-untyped-def]
        return draw_requests(
            tasks,
            seed=0,
            window_of=lambda task_id, rng: rng.randint(330, 480),
            stage="grpo",
            step=3,
            group_size=4,
            **more,
        )

    requests = draw(["a", "b", "a"])
    groups = [requests[i : i + 4] for i in range(0, 12, 4)]
    assert all(len({r.window_tokens for r in group}) == 1 for group in groups)
    assert len({r.seed for r in requests}) == 12
    assert len({r.group_id for r in requests}) == 3
    split = draw(["b", "a"], first_group=1)
    assert split == requests[4:], "a second rank draws what one rank would"


def test_a_hidden_half_decides_and_not_its_id() -> None:
    same: HiddenTask = HIDDEN_LONG.model_copy(update={"gold_spans": ()})
    store = TwoTasks()
    store.hidden[LONG.id] = same
    settings = Settings.model_validate({"run": {"name": "x"}, "model": {"base": "tiny"}})
    runners = [RolloutRunner(each, CHAT, settings, bench=None) for each in (store, TwoTasks())]  # type: ignore[arg-type]
    few, many = (runner.windows.peaks.of(LONG.id).least_peak for runner in runners)
    assert few < many, "without the facts there is less to see"


def test_what_is_taken_from_a_policy_changes_no_window(tmp_path: Path) -> None:
    brief = (RELATIVE, "--prompt.tools=brief")
    whole, left = (
        windows_of(with_turns(tmp_path, *brief, *more))
        for more in ((), ("--context.without=[evict, plan]",))
    )
    assert whole.peaks.key == left.peaks.key
    assert whole.draw(LONG.id, random.Random(0)) == left.draw(LONG.id, random.Random(0))
