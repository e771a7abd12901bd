"""A small random model with a tokenizer of bytes, and the GGUF that llama.cpp would make of it."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

MERGES = ["d e", "de f", "\u0120 \u0120"]
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
UNUSED = ["[PAD262]", "[PAD263]"]
WORDS = [
    *sorted(pre_tokenizers.ByteLevel.alphabet()),
    *(merge.replace(" ", "") for merge in MERGES),
    *MARKS,
    *UNUSED,
]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
_CLASSES: dict[str, tuple[Any, Any]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def random_model(architecture: str) -> Any:
    """Return a model of 2 layers, with an output matrix of its own, of round numbers."""
    config, model = _CLASSES[architecture]
    torch.manual_seed(0)
    made = model(
        config(
            vocab_size=len(WORDS),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=False,
            max_position_embeddings=512,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            rms_norm_eps=1e-5,
        )
    )
    with torch.no_grad():
        for parameter in made.parameters():  # norms and biases too
            parameter.copy_(torch.randn_like(parameter).bfloat16())
    return made.eval()


def write_gguf(path: Path, model: Any, architecture: str) -> None:
    """Write model and tokenizer as llama.cpp's converter does, unquantised."""
    config, names = model.config, gguf.get_tensor_name_map(_arch(architecture), 2)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(architecture)
    writer.add_token_list(WORDS)
    kinds = dict.fromkeys(MARKS, gguf.TokenType.CONTROL)
    kinds |= dict.fromkeys(UNUSED, gguf.TokenType.UNUSED)
    writer.add_token_types([kinds.get(word, gguf.TokenType.NORMAL) for word in WORDS])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(WORDS.index("<|im_end|>"))
    writer.add_bos_token_id(WORDS.index("<|endoftext|>"))
    writer.add_pad_token_id(WORDS.index("<|endoftext|>"))
    writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if architecture == "llama":
            values = _permuted(name, values, config)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _arch(architecture: str) -> gguf.MODEL_ARCH:
    return {"qwen2": gguf.MODEL_ARCH.QWEN2, "llama": gguf.MODEL_ARCH.LLAMA}[architecture]


def _permuted(name: str, values: np.ndarray, config: Any) -> np.ndarray:
    """Return queries and keys in the order in which llama.cpp rotates those of Llama."""
    heads = {
        "q_proj.weight": config.num_attention_heads,
        "k_proj.weight": config.num_key_value_heads,
    }
    for ending, num_heads in heads.items():
        if name.endswith(ending):
            halves = values.reshape(num_heads, 2, -1, values.shape[1])
            return halves.swapaxes(1, 2).reshape(values.shape)
    return values
