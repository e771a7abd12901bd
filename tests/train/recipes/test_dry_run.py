"""`--dry-run`: works before anything was trained, shows the real thing, writes nothing."""

import re
from dataclasses import replace
from pathlib import Path
from shlex import quote

import pytest
from transformers import Qwen2Config

from envs.sources.build import build
from tests.train.small_run import CONFIG, ROOT, add_demonstrations, arguments, settings_in
from train import grpo, sft
from train.config.load import load_settings
from train.models.model import ParameterCount
from train.recipes.estimate import (
    Speed,
    episodes_per_step,
    estimate_memory,
    estimate_seconds,
)
from train.rl.dev_evaluation import DEV_SAMPLES
from train.stages.exit_codes import run_main

SHAPE = Qwen2Config(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=1000,
)
QWEN_3B = Path(__file__).parents[1] / "data" / "qwen2.5-coder-3b"
TIED = Qwen2Config(**SHAPE.to_dict() | {"tie_word_embeddings": True})
COUNT = ParameterCount(total=1100, trainable=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built task set and nothing else."""
    found = tmp_path_factory.mktemp("run")
    build("synthetic", out_dir=found / "tasks", counts={"train": 2, "dev": 1, "test": 1}, seed=0)
    return found


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_without_a_tokenizer_it_names_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--config", str(CONFIG), *arguments(folder), "--run.name=untouched", "--dry-run"]
    assert run_main(grpo.main, line) == 2
    assert f"Remedy: tightrope demos --config {quote(str(CONFIG))}" in capsys.readouterr().err


@pytest.mark.parametrize("stage", [sft, grpo], ids=["sft", "grpo"])
def test_shows_everything_and_writes_nothing(
    stage, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = settings_in(folder)
    add_demonstrations(settings)
    before = snapshot(folder)
    code = run_main(stage.main, ["--config", str(CONFIG), *arguments(folder), "--dry-run"])
    assert code == (2 if stage is grpo else 0), "the warm start is missing"
    assert snapshot(folder) == before
    shown = capsys.readouterr().out
    sections = dict(re.findall(r"== (.*?) ==\n(.*?)\n\n(?===|\Z)", shown, re.DOTALL))

    (tmp_path / "shown.yaml").write_text(sections["configuration"])
    assert load_settings(tmp_path / "shown.yaml") == settings
    share = "(100.00%)" if stage is sft else "trainable (12"
    assert share in sections["parameters"]
    assert ("= 8 episodes per step" in sections["parameters"]) == (stage is grpo)
    assert "peak" in sections["memory per device (estimate)"]
    assert "tokens/s generated" in sections["time (estimate)"]
    assert "solved: submitted, fail-to-pass 100%" in sections["one episode of gold"]
    assert "Repair the code." in sections["first prompt as text"]
    tokens = sections["first segment as tokens, with its loss mask"]
    context, trained = tokens.split("mask 1 (trained)")
    assert "Repair" in context
    assert "+" not in context.replace("'+'", "")
    assert "'submit'" in trained
    assert trained.rstrip().endswith("'<|im_end|>'")
    start = sections["start"]
    assert ("sft is missing. Remedy: accel" in start) if stage is grpo else "nothing" in start


def test_memory_follows_its_formulas(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "--grpo.kl_weight=0.1")
    memory = estimate_memory(settings, "grpo", shape=SHAPE, count=COUNT, world_size=2, on_cpu=True)
    assert (memory.weights, memory.adapter, memory.gradient) == (4000, 400, 400)
    assert (memory.optimizer, memory.reference, memory.acting_copy) == (800, 400, 4400)
    window, episodes_here = settings.context.window_tokens[1], 4
    assert memory.kv_cache == 4 * 4 * 2 * 32 * window * episodes_here
    block = 7 * 64 + 2 * 32 + 4 * 128
    assert memory.activations == 4 * 2048 * 2 * block
    reading = 4 * settings.rollouts.prefill_tokens * (4 * 128 + 5 * 64)
    assert memory.forward == reading + 2 * 4 * 64 * window * episodes_here
    playing = memory.acting_copy + memory.kv_cache + memory.forward
    assert replace(memory, head=0, activations=0).peak == memory.held + playing
    assert replace(memory, forward=0).peak == memory.held + memory.activations + memory.head


def test_a_tile_of_logits_is_all_that_training_holds(tmp_path: Path) -> None:
    def head(vocab_size: int, tokens: int, **facts: bool) -> int:
        overrides = (f"--grpo.tokens_per_microbatch={tokens}", "--model.precision=bf16")
        shape = Qwen2Config(**SHAPE.to_dict() | {"vocab_size": vocab_size})
        settings = settings_in(tmp_path, *overrides)
        given = {"shape": shape, "count": COUNT, "world_size": 1, "on_cpu": False} | facts
        return estimate_memory(settings, "grpo", **given).head

    assert head(1000, 2048) == 2 * 2048 * 1000
    assert head(151_936, 4096) == head(151_936, 65_536) == 2 * 4096 * 32_768
    assert head(1000, 2048, on_cpu=True) > head(1000, 2048)


def test_zero_shares_among_devices_what_its_stage_says(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "--grpo.kl_weight=0.1")
    facts = {"shape": SHAPE, "count": COUNT, "world_size": 2, "on_cpu": False}
    two, three = (estimate_memory(settings, "grpo", **facts, zero=zero) for zero in (2, 3))
    assert (two.weights, two.adapter, two.reference) == (4000, 400, 400)
    assert (two.gradient, two.optimizer, two.acting_copy, two.gathered) == (200, 600, 0, 0)
    assert (three.weights, three.adapter, three.reference) == (2000, 200, 200)
    assert (three.gradient, three.optimizer) == (200, 600)
    assert (three.acting_copy, three.gathered) == (4400, 4000)
    shape = ("--model.base=./x", "--model.tiny=[256, 4]")
    four_bits = settings_in(tmp_path, *shape, "--model.load_in_4bit=true")
    single = facts | {"shape": TIED, "count": replace(COUNT, total=100_100)}
    # 64,000 values of the embedding stay in float32
    small = estimate_memory(four_bits, "grpo", **single)
    assert small.weights == 0.52 * 36_000 + 4 * 64_000
    large = replace(COUNT, total=4 * 10**9 + 100)
    assert estimate_memory(
        settings, "grpo", **facts | {"count": large}, zero=3
    ).gathered == pytest.approx(4e9)


def test_the_3b_recipe_is_planned_without_weights(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--config", str(ROOT / "configs" / "qwen3b.yaml"), f"--model.base={QWEN_3B}"]
    assert run_main(grpo.main, [*line, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "59,867,136 trainable (1.90%); 3,085,938,688 in the base" in shown
    memory = shown.split("== memory per device (estimate) ==\n")[1].split("\n\n")[0]
    rows = {line[:34].strip(): line[34:].split() for line in memory.splitlines()}
    assert rows[""] == ["1", "GPU", "8", "GPUs,", "ZeRO-2", "8", "GPUs,", "ZeRO-3"]
    assert rows["base weights"] == ["6.17", "GB", "6.17", "GB", "0.77", "GB"]
    assert rows["optimizer"] == ["0.48", "GB", "89.80", "MB", "89.80", "MB"]
    assert rows["generation: KV cache"] == ["23.33", "GB", "13.66", "GB", "13.66", "GB"]
    assert rows["peak (held + the larger phase)"][::2] == ["35.44", "23.03", "23.62"]
    assert rows["training: a tile of logits"] == ["0.27", "GB"] * 3
    assert "vllm, 8 GPUs" in shown.split("== time on GPUs (estimate) ==\n")[1]
    servers = shown.split("== vLLM servers (estimate) ==\n")[1].split("\n\n")[0]
    assert servers.count("a trainer beside it (") == 3 and servers.count(": fits") == 6
    assert "holds no weights: counted on the meta device" in shown


@pytest.mark.parametrize(
    ("override", "field", "smaller_than"),
    [
        ("--model.gradient_checkpointing=true", "activations", 1.0),
        ("--model.dtype=bfloat16", "weights", 0.51),
        ("--grpo.kl_weight=0", "reference", 0.01),
        ("--grpo.tokens_per_microbatch=1024", "head", 0.51),
    ],
    ids=["checkpointing", "bf16 base", "no reference", "smaller micro-batch"],
)
def test_memory_answers_to_settings(
    override: str, field: str, smaller_than: float, tmp_path: Path
) -> None:
    sizes = [
        getattr(
            estimate_memory(
                settings_in(tmp_path, "--grpo.kl_weight=0.1", *more),
                "grpo",
                shape=SHAPE,
                count=COUNT,
                world_size=1,
                on_cpu=False,
            ),
            field,
        )
        for more in ((), (override,))
    ]
    assert sizes[1] < smaller_than * sizes[0]


def test_time_counts_every_episode_once(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "--grpo.kl_weight=0", "--grpo.evaluate_every=null")
    given = {"speed": Speed(generated=10, trained=100), "sampled_tokens": 20, "row_tokens": 300}
    seconds = estimate_seconds(settings, "grpo", **given, world_size=1)
    assert seconds == settings.grpo.max_steps * episodes_per_step(settings) * (2 + 3)
    watched = settings_in(tmp_path, "--grpo.kl_weight=0", f"--grpo.evaluate_every={2**20}")
    more = estimate_seconds(watched, "grpo", **given, world_size=1) - seconds
    assert more == 2 * DEV_SAMPLES * settings.tasks.dev * 2, "dev tasks are played, not learned"
    further = {"num_further": settings.grpo.groups_per_step}
    more = estimate_seconds(settings, "grpo", **given, **further, world_size=1) - seconds
    assert more == settings.grpo.max_steps * episodes_per_step(settings) * 2, "played, not learned"
    halved = estimate_seconds(settings, "grpo", **given, world_size=2)
    assert halved == seconds / 2
    total = settings.sft.num_demonstrations * settings.sft.epochs * 300 / 100
    found = estimate_seconds(settings, "sft", **given, world_size=1)
    assert found == pytest.approx(total)
