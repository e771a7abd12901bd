"""What samples on a CPU computes as the policy does, shares its weights, and leaves it as it is."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tests.train import tiny_policy
from train.models.acting import PackedLinear, copy_for_acting

IDS = torch.tensor([[3, 4, 5, 9, 20, 11], [7, 7, 1, 2, 30, 31]])
has_fast_bf16 = torch.backends.mkldnn.is_available() and bool(
    torch.ops.mkldnn._is_mkldnn_bf16_supported()
)
needs_bf16 = pytest.mark.skipif(not has_fast_bf16, reason="the processor multiplies no bf16")


def in_bf16() -> PeftModel:
    """Return the tiny policy: a bf16 base, a float32 adapter that matters, a second, idle one."""
    model = tiny_policy.policy()
    model.add_adapter("ref", model.peft_config["default"])
    for name, parameter in model.named_parameters():
        if "lora" not in name:
            parameter.data = parameter.data.bfloat16()
    return model.eval()


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found.float()


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@needs_bf16
def test_a_packed_copy_computes_the_same_and_shares_the_weights() -> None:
    model = in_bf16()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    acting = copy_for_acting(model)
    assert acting is not model
    packed = [each for each in acting.modules() if isinstance(each, PackedLinear)]
    assert len(packed) == 7 * 2 + 1  # of two layers, and the head
    exact = logits_of(copy.deepcopy(model).float())
    assert relative(logits_of(acting), exact) < 1.5 * relative(logits_of(model), exact) < 0.05
    with model.disable_adapter():
        without = logits_of(model)
        assert relative(logits_of(copy_for_acting(model)), without) < 0.02
    assert relative(without, exact) > 0.2, "the adapter matters"
    owned = {each.data_ptr() for each in model.parameters()}
    assert {each.data_ptr() for each in acting.parameters()} <= owned
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@needs_bf16
def test_a_bf16_model_without_adapter_is_packed_too() -> None:
    base = in_bf16().unload()
    acting = copy_for_acting(base)
    assert isinstance(acting.lm_head, PackedLinear)
    assert relative(logits_of(acting), logits_of(base)) < 0.02


def test_a_float32_policy_acts_merged_also_once_a_trainer_holds_it(tmp_path: Path) -> None:
    """Trainers replace the base's forward; a copy of theirs would run the policy unmerged."""
    model = tiny_policy.policy().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = logits_of(model)
    tiny_policy.trainer(model, tmp_path, tiny_policy.always([]))
    model.eval()
    acting = copy_for_acting(model)
    assert not any("lora" in name for name, _ in acting.named_parameters())
    for name, parameter in tiny_policy.trainable(model).items():
        if "lora_B" in name:
            parameter.data.zero_()
    torch.testing.assert_close(logits_of(acting), expected, rtol=1e-4, atol=1e-4)
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert {name for name in before if "lora_B" not in name} <= same


def test_a_float32_model_without_adapter_acts_itself() -> None:
    base = tiny_policy.policy().unload()
    assert copy_for_acting(base) is base
