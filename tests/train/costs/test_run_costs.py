"""What a run took is read from its files: steps, policies, solved ones, tokens at prices."""

import json
from pathlib import Path

import pytest

from envs.errors import UserError
from rewards.cost import billed_tokens, sampled_tokens
from rewards.outcome import is_solved
from tests.scripts.made_run import make_run
from train.costs.run_costs import SECONDS, measure_run
from train.costs.session import read_prices
from train.stages.run_dir import stage_in


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of 90 s and an evaluation of which only some policies were timed."""
    folder = make_run(tmp_path_factory.mktemp("run"), num_tasks=4, num_steps=2)
    path = folder / "grpo/metrics.jsonl"
    times = {"seconds/rollout": 60.0, "seconds/learn": 30.0}
    rows = [json.loads(line) | times for line in path.read_text().strip().split("\n")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "evaluate" / SECONDS).write_text(json.dumps({"grpo": 36.0, "gold": 1.0}))
    return folder


def test_training_and_each_policy_have_hours_and_money(run: Path) -> None:
    parts = {part.name: part for part in measure_run(run, hour_price=2.0)}
    assert [*parts] == [
        "grpo",
        *(f"evaluate {n}" for n in ("base", "careful", "gold", "grpo", "sft")),
    ]
    grpo, policy = parts["grpo"], parts["evaluate grpo"]
    assert (grpo.num_episodes, grpo.seconds, grpo.episodes_per_hour) == (24, 180.0, 480.0)
    assert grpo.money == pytest.approx(0.1)
    assert (policy.num_episodes, policy.seconds) == (8, 36.0)
    assert policy.money == pytest.approx(0.02) and policy.num_solved > 0
    assert policy.money_per_solved == pytest.approx(0.02 / policy.num_solved)
    untimed = parts["evaluate sft"]
    assert (untimed.seconds, untimed.episodes_per_hour, untimed.money_per_solved) == (None,) * 3
    assert parts["evaluate base"].num_solved == 0


def test_tokens_are_those_of_the_meter_at_the_users_prices(run: Path) -> None:
    prices = read_prices("1,1,1")
    part = next(p for p in measure_run(run, prices=prices) if p.name == "evaluate careful")
    episodes = stage_in(run, "evaluate").read_episodes("careful")
    assert part.billed_tokens == sum(map(billed_tokens, episodes))
    assert part.sampled_tokens == sum(map(sampled_tokens, episodes))
    assert part.num_solved == sum(map(is_solved, episodes))
    assert part.tokens_money == pytest.approx(part.billed_tokens / 1e6)
    assert part.tokens_money_per_solved == pytest.approx(part.tokens_money / part.num_solved)
    cheap = next(p for p in measure_run(run, prices=read_prices("1,0,1")) if p.name == part.name)
    saved = (part.tokens_money - cheap.tokens_money) * 1e6
    assert saved == pytest.approx(part.cached_tokens) and part.cached_tokens > 0
    assert part.money is None


def test_steps_without_times_have_none(run: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path, num_tasks=1, num_steps=1)
    assert measure_run(folder, hour_price=1.0)[0].seconds is None


def test_a_folder_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no episodes are there"):
        measure_run(tmp_path / "nowhere")
