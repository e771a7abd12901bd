"""Memory of an update that is really made: tensors that are held, and those saved for backward."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.train.small_run import settings_in
from train.models.model import add_adapter, count_parameters
from train.recipes.estimate import Memory, estimate_memory

ROWS, TOKENS = 4, 512  # 2,048 in a micro-batch
SHAPE = Qwen2Config(
    hidden_size=128,
    intermediate_size=352,
    num_hidden_layers=4,
    num_attention_heads=8,
    num_key_value_heads=2,
    vocab_size=1000,
)


def count_bytes(tensors: Any) -> int:
    """Return the bytes of tensors, of those that share memory once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


def make_update(model: Any) -> tuple[int, int]:
    """Train one step on random ids; returns the bytes held after it, and saved in its forward."""
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    saved: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            saved.append(tensor)
        return tensor

    ids_BT = torch.randint(SHAPE.vocab_size, (ROWS, TOKENS))
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.get_base_model().model(input_ids=ids_BT).last_hidden_state.square().mean()
    num_saved = count_bytes(saved)
    loss.backward()
    optimizer.step()
    states = [each for state in optimizer.state.values() for each in state.values() if each.dim()]
    gradients = [each.grad for each in trained]
    return count_bytes([*model.parameters(), *gradients, *states]), num_saved


@pytest.mark.parametrize("rank", [4, 32])
def test_an_update_takes_what_is_predicted(rank: int, tmp_path: Path) -> None:
    overrides = ("--grpo.kl_weight=0", f"--model.lora_rank={rank}")
    settings = settings_in(tmp_path, *overrides, f"--grpo.tokens_per_microbatch={ROWS * TOKENS}")
    torch.manual_seed(0)
    model = add_adapter(Qwen2ForCausalLM(SHAPE), settings)
    found: Memory = estimate_memory(
        settings, "grpo", shape=SHAPE, count=count_parameters(model), world_size=1, on_cpu=True
    )
    held, saved = make_update(model)
    assert found.held == pytest.approx(held, rel=0.02)
    assert found.activations == pytest.approx(saved, rel=0.15)
