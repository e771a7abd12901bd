"""A tiny policy with an adapter that matters, random rows, and trainers around them, for tests."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig

from envs.records import Segment
from train.config.settings import Settings
from train.rl.grpo_arguments import derive_grpo_config
from train.rl.grpo_trainer import (
    MultiSegmentGRPOTrainer,
    RolloutBatch,
    StepRequest,
    make_step_dataset,
)

VOCAB_SIZE = 64
GROUP_SIZE = 4


def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{i}": i for i in range(VOCAB_SIZE - 2)}
    words |= {"<pad>": VOCAB_SIZE - 2, "<eos>": VOCAB_SIZE - 1}
    model = models.WordLevel(words, unk_token="<eos>")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), pad_token="<pad>", eos_token="<eos>", unk_token="<eos>"
    )


def policy(seed: int = 0, *, vocab_size: int = VOCAB_SIZE) -> PeftModel:
    """Return a random model whose adapter is away from zero, so that all of it has gradients."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(Qwen2ForCausalLM(config), lora)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def row(
    generator: random.Random,
    *,
    advantage: float,
    spans: Sequence[int] = (),
    episode_id: str = "",
) -> Segment:
    """Return a random row of alternating lengths (unsampled, sampled, unsampled, ... sampled)."""
    spans = spans or [generator.randint(1, 12) for _ in range(2 * generator.randint(1, 3))]
    mask = [index % 2 for index, length in enumerate(spans) for _ in range(length)]
    return Segment(
        episode_id=episode_id,
        token_ids_T=tuple(generator.randrange(VOCAB_SIZE - 2) for _ in mask),
        loss_mask_T=tuple(mask),
        sampling_logps_T=tuple(bit * -generator.uniform(2.0, 6.0) for bit in mask),
        advantage=advantage,
    )


def groups_of_rows(num_groups: int, *, seed: int = 0) -> list[Segment]:
    """Return random single-segment episodes; the last group has no signal."""
    generator = random.Random(seed)
    rows = []
    for group in range(num_groups):
        rewards = [generator.choice([0.0, 0.25, 0.5, 1.0]) for _ in range(GROUP_SIZE)]
        rewards = [1.0, 0.0, *rewards[2:]] if group < num_groups - 1 else [0.5] * GROUP_SIZE
        mean = sum(rewards) / GROUP_SIZE
        rows += [row(generator, advantage=reward - mean) for reward in rewards]
    return rows


def always(*minibatches: Sequence[Segment]) -> Callable[[StepRequest, Any], RolloutBatch]:
    batch = RolloutBatch(minibatches)
    return lambda request, model: batch


def config(
    folder: Path,
    *,
    num_groups: int = 2,
    max_steps: int = 4,
    save_steps: int = 2,
    beta: float = 0.0,
    bf16: bool = False,
    learning_rate: float = 1e-2,
    **trl: Any,
) -> GRPOConfig:
    """Return the trainer's arguments; `trl` are others of `grpo.trl`."""
    settings = Settings.model_validate(
        {
            "run": {"name": "test"},
            "model": {"base": "tiny", "precision": "bf16" if bf16 else "fp32"},
            "grpo": {
                "groups_per_step": num_groups,
                "group_size": GROUP_SIZE,
                "max_steps": max_steps,
                "learning_rate": learning_rate,
                "kl_weight": beta,
                "trl": {"warmup_steps": 0, **trl},
            },
            "checkpoints": {"every": save_steps},
        }
    )
    return derive_grpo_config(settings, folder)


def trainer(
    model: PeftModel,
    folder: Path,
    rollouts: Callable[[StepRequest, Any], RolloutBatch],
    *,
    tokens_per_microbatch: int = 10_000,
    importance: Any = "off",
    num_groups: int = 2,
    packs: bool | None = None,
    **overrides: Any,
) -> MultiSegmentGRPOTrainer:
    args = config(folder, num_groups=num_groups, **overrides)
    return MultiSegmentGRPOTrainer(
        model,
        args=args,
        train_dataset=make_step_dataset(num_steps=args.max_steps, groups_per_step=num_groups),
        processing_class=tokenizer(),
        rollouts=rollouts,
        tokens_per_microbatch=tokens_per_microbatch,
        importance=importance,
        packs=packs,
    )


def step_inputs(num_groups: int) -> list[dict[str, object]]:
    """Return what one step is given: of ours the place of each group, of stock TRL prompts."""
    return [{"group": i // GROUP_SIZE, "prompt": ""} for i in range(num_groups * GROUP_SIZE)]


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in trainable(model).items()}


def relative_difference(ours: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the norm of the difference over all tensors, relative to the norm of `other`."""
    assert ours.keys() == other.keys()
    difference = sum(((ours[n] - other[n]) ** 2).sum().item() for n in ours) ** 0.5
    return difference / sum((other[n] ** 2).sum().item() for n in other) ** 0.5
