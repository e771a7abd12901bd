"""What is kept of a request is what a running model's cache holds, for each kind of layer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, T5Config

from envs.errors import UserError
from tests.train.costs.tiny_configs import CONFIGS, SIZE
from train.costs.shape import (
    config_of_numbers,
    measure_shape,
    open_shape,
    read_config,
    shape_of_numbers,
)

LARGE = {"layers": 80, "kv_heads": 8, "head_dim": 128}
QWEN_3B = Path(__file__).parents[1] / "data" / "qwen2.5-coder-3b"
QWEN = {"model_type": "qwen2", **SIZE}


def run_model(config: Any, *, num_tokens: int, dtype: torch.dtype) -> DynamicCache:
    """Read a prompt and one token more on the CPU; returns what is kept then."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    cache = DynamicCache(config=config)
    ids_BT = torch.arange(num_tokens)[None] % config.get_text_config().vocab_size
    with torch.no_grad():
        model(input_ids=ids_BT[:, :-1], past_key_values=cache)
        model(input_ids=ids_BT[:, -1:], past_key_values=cache)
    return cache


def count_bytes(cache: DynamicCache) -> int:
    """Return the bytes of all tensors in a cache."""
    tensors = []
    for layer in cache.layers:
        tensors += [getattr(layer, "keys", None), getattr(layer, "values", None)]
        for name in ("conv_states", "recurrent_states"):
            tensors += getattr(layer, name, {}).values()
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_running_model_keeps_what_is_predicted(name: str, bits: int) -> None:
    dtype = torch.bfloat16 if bits == 16 else torch.float32
    shape = measure_shape(CONFIGS[name], bits=bits)
    for num_tokens in (10, 50):
        kept = count_bytes(run_model(CONFIGS[name], num_tokens=num_tokens, dtype=dtype))
        assert shape.kv_bytes(num_tokens) == pytest.approx(kept, rel=0.02)


def test_kinds_of_layers_are_named_and_bounded() -> None:
    shape = measure_shape(CONFIGS["some sliding"])
    assert shape.describe_layers() == "5 x attention to 16 tokens, 1 x attention"
    assert shape.kv_bytes(15) == 15 * shape.bytes_per_token == 15 * 6 * 2 * 2 * 8 * 2
    assert shape.kv_bytes(115) - shape.kv_bytes(15) == 100 * 2 * 2 * 8 * 2, "one layer still grows"
    assert shape.kv_bytes(115, keeps_all=True) == 115 * shape.bytes_per_token
    latent = measure_shape(CONFIGS["latent"])
    assert latent.describe_layers() == "4 x latent attention"
    assert latent.bytes_per_token == 4 * (16 + 4) * 2
    mixed = measure_shape(CONFIGS["delta nets"])
    assert mixed.describe_layers() == "3 x state, 1 x attention"
    assert mixed.kv_bytes(10**6) == mixed.state_bytes + 10**6 * 2 * 2 * 8 * 2


def test_the_published_figures_of_80_layers() -> None:
    shape = shape_of_numbers(**LARGE, bits=16)
    assert shape.bytes_per_token == 327_680
    lengths = [4 * 1024, 32 * 1024, 128 * 1024, 10**6]
    kept = [f"{shape.kv_bytes(tokens) / 1e9:.3g}" for tokens in lengths]
    assert kept == ["1.34", "10.7", "42.9", "328"]
    assert round(shape.kv_bytes(2**20) / 1e9) == 344, "a K of 1,024 and an M of 1,000,000"
    assert shape_of_numbers(**LARGE, bits=8).bytes_per_token == 327_680 / 2


def test_numbers_make_the_model_that_a_config_makes() -> None:
    numbers = {"heads": 64, "width": 8192, "mlp": 28672, "vocab": 128256}
    shape = measure_shape(config_of_numbers(**LARGE, **numbers))
    assert shape.parameters is not None
    assert shape.parameters.total == 70_553_706_496  # as meta-llama/Llama-3.1-70B states
    assert shape.bytes_per_token == 327_680
    qwen = open_shape(QWEN_3B, named="qwen")
    assert qwen.parameters is not None and qwen.parameters.total == 3_085_938_688
    assert qwen.bytes_per_token == 2 * 2 * 36 * 2 * 128 and not qwen.assumed


@pytest.mark.parametrize("name", ["shared heads", "tied", "experts", "latent", "delta nets"])
def test_parameters_are_those_of_the_model_and_of_experts_those_in_use(name: str) -> None:
    config = CONFIGS[name]
    parameters = measure_shape(config).parameters
    model = AutoModelForCausalLM.from_config(config)
    assert parameters is not None and parameters.total == model.num_parameters()
    table = config.vocab_size * config.hidden_size
    experts = sum(each.numel() for key, each in model.named_parameters() if ".experts." in key)
    apart = table * (1 if config.tie_word_embeddings else 2)
    assert parameters.head == table
    assert parameters.used == model.num_parameters() - apart - experts // 2
    assert bool(experts) == (name in ("experts", "latent", "delta nets"))


def write(folder: Path, **fields: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({k: v for k, v in (QWEN | fields).items() if v is not None}))
    return path


def test_what_a_file_leaves_out_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, vocab_size=None, head_dim=None)
    for place in (path, tmp_path):
        assert open_shape(place, named="x").assumed == ("vocab_size 151936",)
    with pytest.raises(UserError, match="by the architecture: num_key_value_heads 32"):
        open_shape(write(tmp_path, num_key_value_heads=None), named="x")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_hidden_layers": None}, "no num_hidden_layers"),
        ({"hidden_size": None}, "no hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_attention_heads": 0}, "num_attention_heads 0"),
        ({"num_key_value_heads": 0}, "num_key_value_heads 0"),
        ({"num_key_value_heads": -2}, "num_key_value_heads -2"),
        ({"hidden_size": "32"}, "hidden_size 32"),
        ({"vocab_size": True}, "vocab_size True"),
        ({"num_key_value_heads": 3}, "config.json"),
        ({"layer_types": ["full_attention"]}, "config.json"),
        ({"text_config": [1]}, "config.json"),
        ({"model_type": None}, "no causal language model of this type"),
        ({"model_type": "t5"}, "no causal language model of this type"),
        ({"model_type": "bart", "d_model": 32, "is_encoder_decoder": True}, "has an encoder"),
        ({"model_type": "deepseek_v32"}, "DynamicIndexedLayer"),
    ],
    ids=str,
)
def test_odd_configs_are_refused_by_what_is_odd(
    tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        open_shape(write(tmp_path, **fields), named=str(tmp_path / "config.json"))


def test_what_is_no_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model's config is there"):
        read_config(tmp_path)
    path = tmp_path / "config.json"
    for text in ("[]", "{", "\xff"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match="cannot be read"):
            read_config(path)
    path.write_text(json.dumps(T5Config().to_dict()))
    with pytest.raises(UserError, match="this type"):
        read_config(path)


def test_a_model_that_uses_the_config_is_left_as_it_is() -> None:
    config = LlamaConfig(**SIZE)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    before = model.config.to_dict(), model.config._attn_implementation
    measure_shape(model.config)
    assert (model.config.to_dict(), model.config._attn_implementation) == before


def test_equal_configs_are_looked_at_once_and_others_anew() -> None:
    first, again = (measure_shape(LlamaConfig(**SIZE)) for _ in range(2))
    assert again is first
    assert measure_shape(LlamaConfig(**SIZE | {"num_hidden_layers": 2})).layers == first.layers[:2]
    assert measure_shape(LlamaConfig(**SIZE), bits=32).bytes_per_value == 4
