"""Who fits on a card beside a vLLM server, said before anything is started."""

from pathlib import Path

from transformers import Qwen2Config

from train.config.load import load_settings
from train.config.settings import Settings
from train.models.model import ParameterCount
from train.recipes.estimate import Memory, estimate_memory
from train.recipes.server_memory import describe_servers, measure_server

ROOT = Path(__file__).resolve().parents[3]
COUNT = ParameterCount(total=3_145_805_824, trainable=59_867_136)
SHAPE = Qwen2Config.from_pretrained(Path(__file__).parents[1] / "data" / "qwen2.5-coder-3b")


def settings_of(*overrides: str) -> Settings:
    return load_settings(ROOT / "configs" / "qwen3b.yaml", list(overrides))


def memory_of(settings: Settings) -> Memory:
    facts = {"shape": SHAPE, "count": COUNT, "world_size": 1, "on_cpu": False}
    return estimate_memory(settings, "grpo", **facts)  # type: ignore[arg-type]


def test_what_weights_leave_of_the_share_holds_keys_and_values() -> None:
    found = measure_server(settings_of(), shape=SHAPE, count=COUNT, card=80e9, share=0.5)
    assert found.taken == 40e9
    assert found.weights == 2 * (COUNT.total - COUNT.trainable)
    # 36 layers of 2 heads with 128 features, keys and values in bf16
    assert found.num_tokens == (40e9 - found.weights - 3e9) // (36 * 2 * 2 * 128 * 2)
    assert found.num_windows > 50
    none = measure_server(settings_of(), shape=SHAPE, count=COUNT, card=16e9, share=0.5)
    assert none.num_windows == 0


def test_who_does_not_fit_is_told() -> None:
    settings = settings_of()
    small = memory_of(settings)
    large = memory_of(settings_of("--grpo.tokens_per_microbatch=600000"))
    assert small.training < 78e9 < large.training and small.training <= small.peak
    text = describe_servers(
        settings, shape=SHAPE, count=COUNT, trainers={"small": small, "large": large}
    )
    of_small, of_large = (line for line in text.split("\n") if "trainer beside it" in line)
    assert "(small)" in of_small and of_small.count(": fits") == 2
    assert "(large)" in of_large and of_large.endswith("DOES NOT FIT")
    assert "assumed, not measured" in text
