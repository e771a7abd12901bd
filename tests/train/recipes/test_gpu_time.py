"""Hours on GPUs that are not here: the formulas answer to what they are made of, and say so."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import Qwen2Config

from train.config.load import load_settings
from train.config.settings import Settings
from train.models.model import ParameterCount
from train.recipes.gpu_time import ASSUMED, describe_gpu_time, estimate_step

ROOT = Path(__file__).resolve().parents[3]
COUNT = ParameterCount(total=3_145_805_824, trainable=59_867_136)
SHAPE = Qwen2Config.from_pretrained(Path(__file__).parents[1] / "data" / "qwen2.5-coder-3b")


def settings_of(*overrides: str) -> Settings:
    return load_settings(ROOT / "configs" / "qwen3b.yaml", list(overrides))


def seconds(backend: str, *overrides: str, num_gpus: int = 1, count: ParameterCount = COUNT):
    facts = {"shape": SHAPE, "count": count, "num_gpus": num_gpus}
    return estimate_step(settings_of(*overrides), backend=backend, **facts)  # type: ignore[arg-type]


def test_issuing_operations_bounds_transformers_and_not_vllm() -> None:
    ours, served = seconds("transformers"), seconds("vllm")
    assert served.rollout_s < ours.rollout_s / 2
    assert served.learn_s == ours.learn_s
    half = replace(COUNT, total=COUNT.total // 2)
    assert seconds("transformers", count=half).rollout_s == ours.rollout_s
    assert seconds("vllm", count=half).rollout_s < served.rollout_s
    rows = seconds("transformers", "--grpo.generation_batch=32").rollout_s
    assert rows == pytest.approx(2 * ours.rollout_s)


@pytest.mark.parametrize(
    ("override", "ratio"),
    [
        ("--grpo.kl_weight=0", 3 / 4),
        ("--model.gradient_checkpointing=false", 3 / 4),
        ("--grpo.updates_per_rollout=2", 4.5 / 4),
        ("--grpo.groups_per_step=64", 2.0),
    ],
)
def test_learning_counts_every_pass(override: str, ratio: float) -> None:
    before = seconds("vllm").learn_s
    assert seconds("vllm", override).learn_s == pytest.approx(ratio * before)


def test_further_groups_are_played_and_not_trained_on() -> None:
    once, twice = seconds("vllm"), seconds("vllm", "--grpo.resample=32")
    assert twice.rollout_s == pytest.approx(2 * once.rollout_s)
    assert twice.learn_s == once.learn_s
    text = describe_gpu_time(settings_of("--grpo.resample=32"), shape=SHAPE, count=COUNT)
    assert "all 32 further groups" in text


def test_more_gpus_share_the_episodes() -> None:
    one, eight = seconds("vllm"), seconds("vllm", num_gpus=8)
    assert eight.learn_s == pytest.approx(one.learn_s / 8)
    assert one.rollout_s / 8 < eight.rollout_s < one.rollout_s, "fewer rows share the weights"


def test_the_table_names_what_it_assumes() -> None:
    lines = describe_gpu_time(settings_of(), shape=SHAPE, count=COUNT).split("\n")
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "transformers, 1 GPU",
        "vllm, 1 GPU",
        "transformers, 8 GPUs",
        "vllm, 8 GPUs",
    ]
    assert "\n".join(lines[5:]) == ASSUMED
    assert "not measured" in ASSUMED
