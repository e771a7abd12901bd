"""A model's shape, without its weights: what its layers keep of a request, and its parameters.

    shape = measure_shape(read_config(Path("config.json")))
    shape.kv_bytes(32_768), shape.bytes_per_token

Nothing is derived from names of fields, which differ between architectures: the model is built on
the meta device, where tensors have sizes and no content, reads a few tokens, and what then lies in
its cache is looked at. So keys and values shared among queries (GQA), latents (MLA), sliding
windows and states (Mamba, delta nets, convolutions) are counted as Transformers keeps them.

Left out: what an engine adds (pages that are not full, tables with room), scales of a quantised
cache, and the index of sparse attention, whose layers are refused.
"""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, DynamicCache, LlamaConfig

from envs.errors import UserError
from train.models.cache_layers import list_unserved
from train.models.model import make_empty
from train.models.model_folder import check_config, naming_faults
from train.models.weight_files import read_object

_READ_TOKENS = 8
_COUNTS = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
)
_NEEDED = _COUNTS[:2]  # the defaults of an architecture say nothing about a model
_BY_HAND = "give --layers, --kv-heads and --head-dim in its place"


@dataclass(frozen=True)
class Layer:
    """What one layer keeps of a request, and how much a token computes with it.

    Attributes:
        values_per_token: Numbers kept of each token: keys and values, or a latent.
        window: Most tokens that it keeps; None for all.
        state_bytes: Kept whatever the length.
        attended: Multiplications that a token does for each token that it attends to: query heads
            x (features of a key + of a value), as in a forward pass over a prompt.
        is_latent: Keys and values are kept compressed (MLA).
    """

    values_per_token: int = 0
    window: int | None = None
    state_bytes: int = 0
    attended: int = 0
    is_latent: bool = False

    @property
    def kind(self) -> str:
        """Its name in a table."""
        attention = "attention"
        if self.is_latent:
            attention = "latent attention"
        if self.window is not None:
            attention = f"attention to {self.window + 1:,} tokens"
        if not self.values_per_token:
            return "state" if self.state_bytes else "nothing kept"
        return f"{attention} and state" if self.state_bytes else attention


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: all, those that one token uses, and those of the output matrix.

    `used` are without embeddings, which are looked up, and without the output matrix, which is not
    applied to each token.
    """

    total: int
    used: int
    head: int


@dataclass(frozen=True)
class ModelShape:
    """A model without its weights.

    Attributes:
        name: What it was read from.
        layers: In order.
        bytes_per_value: Of weights and of what is kept per token.
        parameters: None where only keys and values are known.
        assumed: Fields that the config does not state, with the architecture's own values.
    """

    name: str
    layers: tuple[Layer, ...]
    bytes_per_value: float = 2.0
    parameters: Parameters | None = None
    assumed: tuple[str, ...] = ()

    @property
    def bytes_per_token(self) -> float:
        """By how much the cache of a request grows with a token, until a window is full."""
        return self.bytes_per_value * sum(layer.values_per_token for layer in self.layers)

    @property
    def state_bytes(self) -> int:
        """Bytes of a request that do not depend on its length."""
        return sum(layer.state_bytes for layer in self.layers)

    def kv_bytes(self, num_tokens: float, *, keeps_all: bool = False) -> float:
        """Return the bytes that are kept of a request of so many tokens.

        Args:
            num_tokens: Prompt and what was sampled.
            keeps_all: Sliding windows too keep all tokens, as in `train/rollouts/kv_table.py`.
        """
        values = 0.0
        for layer in self.layers:
            window = num_tokens if layer.window is None or keeps_all else layer.window
            values += layer.values_per_token * min(num_tokens, window)
        return self.bytes_per_value * values + self.state_bytes

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights; 0 where they are not known."""
        return self.bytes_per_value * self.parameters.total if self.parameters else 0.0

    def describe_layers(self) -> str:
        """Return how many layers of each kind there are."""
        kinds = [layer.kind for layer in self.layers]
        return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))


def read_config(path: Path) -> Any:
    """Return the Transformers config in a file, or in the config.json of a folder.

    Raises:
        UserError: There is none, it lacks what no default can stand for, a count is no number from
            1 on, or it describes no decoder.
    """
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        remedy = f"name a model's folder, its config.json or a fetched model, or {_BY_HAND}"
        raise UserError("no model's config is there", got=str(file), remedy=remedy)
    check_config(file)
    data, stated = read_object(file), _read_stated(file)
    kind = CONFIG_MAPPING[data["model_type"]]
    for name in _COUNTS:
        names = (name, kind.attribute_map.get(name, name))
        values = [stated[each] for each in names if stated.get(each) is not None]
        if name in _NEEDED and not values:
            raise UserError("the config lacks a field", got=f"no {name} in {file}", remedy=_BY_HAND)
        for value in values:
            if not isinstance(value, list) and not (type(value) is int and value > 0):
                got = f"{name} {str(value)[:40]} in {file}"
                raise UserError("the config holds a count that is none", got=got, remedy=_BY_HAND)
    with naming_faults(file):
        config = kind.from_dict(data)
    if config.is_encoder_decoder:
        raise UserError(
            "the model has an encoder, whose keys and values are of another kind",
            got=f"{data['model_type']} in {file}",
            remedy="name one with a decoder alone",
        )
    return config


def _read_stated(file: Path) -> dict[str, Any]:
    """Return what a config states, of a model that reads more than text the part for text."""
    data = read_object(file)
    text = data.get("text_config")
    return {**data, **text} if isinstance(text, dict) else data


def open_shape(path: Path, *, named: str, bits: int = 16) -> ModelShape:
    """Return the shape of the model whose config is at a path, as `read_config` finds it.

    Args:
        path: Of a folder or file.
        named: What the user wrote.
        bits: As `measure_shape` takes them.

    Raises:
        UserError: What the two raise.
    """
    config = read_config(path)
    assumed = _list_assumed(path, config)
    try:
        return replace(measure_shape(config, name=named, bits=bits), assumed=assumed)
    except UserError as error:
        if not assumed:
            raise
        got = f"{error.got}; not in the file, by the architecture: {', '.join(assumed)}"
        raise UserError(error.what, got=got, remedy=error.remedy) from error


def _list_assumed(path: Path, config: Any) -> tuple[str, ...]:
    """Return the counts that a file leaves to the architecture; `head_dim` follows from others."""
    stated = _read_stated(path / "config.json" if path.is_dir() else path)
    text = config.get_text_config(decoder=True)
    names = [name for name in _COUNTS if name != "head_dim" and hasattr(text, name)]
    return tuple(
        f"{name} {getattr(text, name)}"
        for name in names
        if stated.get(name) is None and stated.get(text.attribute_map.get(name, name)) is None
    )


def shape_of_numbers(*, layers: int, kv_heads: int, head_dim: int, bits: int) -> ModelShape:
    """Return a model of which only keys and values are known: 2 x heads x features a layer."""
    layer = Layer(values_per_token=2 * kv_heads * head_dim)
    name = f"{layers} layers, {kv_heads} KV heads of {head_dim}"
    return ModelShape(name, (layer,) * layers, bytes_per_value=bits / 8)


def config_of_numbers(
    *, layers: int, kv_heads: int, head_dim: int, heads: int, width: int, mlp: int, vocab: int
) -> LlamaConfig:
    """Return the config of a model as Llama and its like are built, output matrix of its own."""
    return LlamaConfig(
        num_hidden_layers=layers,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        num_attention_heads=heads,
        hidden_size=width,
        intermediate_size=mlp,
        vocab_size=vocab,
        tie_word_embeddings=False,
    )


def measure_shape(config: Any, *, name: str = "", bits: int = 16) -> ModelShape:
    """Return the shape of the model that a Transformers config describes.

    Args:
        config: Of a causal language model.
        name: What it was read from.
        bits: Of a value in weights and cache; below 16 states stay at 16 or what they need.

    Raises:
        UserError: The model cannot be built, or keeps what cannot be counted.
    """
    name = name or config.model_type
    return _measure(_Described(name, config.to_json_string(use_diff=False), config), bits)


@dataclass(frozen=True)
class _Described:
    """A config that equals another one if its text does."""

    name: str
    text: str
    config: Any = field(compare=False)


@lru_cache(maxsize=4)  # an estimate asks for each layout
def _measure(described: _Described, bits: int) -> ModelShape:
    name, config = described.name, deepcopy(described.config)  # a model may be using this one
    with naming_faults(name):
        if others := list_unserved(config):
            got = f"{', '.join(others)} in {name}"
            raise UserError("it is not known what such layers keep", got=got, remedy=_BY_HAND)
        model = make_empty(config, dtype=torch.float32 if bits > 16 else torch.bfloat16).eval()
        model.set_experts_implementation("batched_mm")  # others look at which token goes where
        cache = DynamicCache(config=config)
        ids_BT = torch.zeros(1, _READ_TOKENS, dtype=torch.long, device="meta")
        with torch.no_grad():
            model(input_ids=ids_BT, past_key_values=cache, use_cache=True)
        text = config.get_text_config(decoder=True)
        layers = [
            _look_at(layer, of_layer)
            for layer, of_layer in zip(cache.layers, text.per_layer_config, strict=True)
        ]
        return ModelShape(name, tuple(layers), bits / 8, _count(model, text))


def _look_at(kept: Any, config: Any) -> Layer:
    """Return what a layer of the cache holds after a few tokens."""
    tensors = [
        tensor
        for name in ("conv_states", "recurrent_states")
        for tensor in getattr(kept, name, {}).values()
        if tensor is not None
    ]
    state_bytes = sum(tensor.nbytes for tensor in tensors)
    if getattr(kept, "keys", None) is None:
        if hasattr(kept, "conv_states") and not tensors:
            kind = f"a state that is not in the cache, of {config.model_type}"
            raise UserError("it is not known what a layer keeps", got=kind, remedy=_BY_HAND)
        return Layer(state_bytes=state_bytes)
    features = kept.keys.shape[-1] + kept.values.shape[-1]
    rank = getattr(config, "kv_lora_rank", None)
    is_latent = bool(rank) and kept.keys.shape[-1] == rank
    if is_latent:
        attended = config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim
    else:
        attended = features
    window = getattr(kept, "sliding_window", None)
    return Layer(
        values_per_token=kept.keys.shape[1] * kept.keys.shape[-1]
        + kept.values.shape[1] * kept.values.shape[-1],
        window=None if window is None else window - 1,  # the token that is read now is not kept
        state_bytes=state_bytes,
        attended=config.num_attention_heads * attended,
        is_latent=is_latent,
    )


def _count(model: Any, text: Any) -> Parameters:
    """Count parameters; of experts those that a token is sent to.

    Raises:
        UserError: The config does not say how many experts that are.
    """
    sizes = {name: tensor.numel() for name, tensor in model.named_parameters()}
    tables = {each.weight for each in model.modules() if isinstance(each, torch.nn.Embedding)}
    head = model.get_output_embeddings().weight
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    looked_up = sum(table.numel() for table in tables | {head})  # a tied head is one of them
    used = sum(sizes.values()) - looked_up - experts
    if experts:
        names = ("num_experts", "num_local_experts", "n_routed_experts")
        number = next((getattr(text, name) for name in names if getattr(text, name, None)), None)
        chosen = getattr(text, "num_experts_per_tok", None)
        if not number or not chosen:
            got = "no num_experts_per_tok, or no number of experts"
            raise UserError("it is not known which experts a token uses", got=got, remedy=_BY_HAND)
        used += experts * chosen // number
    return Parameters(total=sum(sizes.values()), used=used, head=head.numel())
