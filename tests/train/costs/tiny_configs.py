"""Configs of tiny models of each kind of layer, as Transformers builds them."""

from typing import Any

from transformers import (
    DeepseekV3Config,
    Gemma3TextConfig,
    JambaConfig,
    Lfm2Config,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3NextConfig,
)

SIZE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8}
LINEAR = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
MAMBA = {"mamba_d_state": 4, "mamba_expand": 2, "mamba_dt_rank": 4, "use_mamba_kernels": False}

CONFIGS = {
    "shared heads": Qwen2Config(**SIZE),
    "tied": Qwen2Config(**SIZE, tie_word_embeddings=True),
    "experts": MixtralConfig(**SIZE, num_local_experts=4, num_experts_per_tok=2),
    "all sliding": MistralConfig(**SIZE, sliding_window=16),
    "some sliding": Gemma3TextConfig(
        **SIZE | {"num_hidden_layers": 6},
        sliding_window=16,
        layer_types=["sliding_attention"] * 5 + ["full_attention"],
        query_pre_attn_scalar=8,
    ),
    "latent": DeepseekV3Config(
        **SIZE | {"num_key_value_heads": 4, "head_dim": 4},
        **LATENT,
        **EXPERTS,
        v_head_dim=8,
        n_routed_experts=4,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=2,
    ),
    "delta nets": Qwen3NextConfig(**SIZE, **LINEAR, **EXPERTS, num_experts=4),
    "Mamba": JambaConfig(
        **{name: value for name, value in SIZE.items() if name != "head_dim"},
        **MAMBA,
        num_experts=4,
        num_experts_per_tok=2,
        attn_layer_period=4,
        attn_layer_offset=1,
    ),
    "convolutions": Lfm2Config(
        **SIZE, layer_types=["conv", "full_attention", "conv", "full_attention"]
    ),
}
