"""`grpo.trl`: each argument that passes changes the training as we drive it; others are refused.

A row trains the tiny policy for a few steps on fixed rows, two updates each.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOConfig

from envs.errors import UserError
from tests.train import tiny_policy
from tests.train.small_run import settings_in
from train.config.trl_arguments import TrlArguments, explain_refusal
from train.rl.grpo_arguments import derive_grpo_config

PASSED = TrlArguments.__annotations__.keys()
KNOWN = {field.name for field in fields(GRPOConfig) if not field.name.startswith("_")}
SGD = {"optim": "sgd"}
EARLY = {"warmup_steps": 1}
COMPILED = {"torch_compile": True, "torch_compile_backend": "eager"}
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {  # name: another value, and what stands beside it
    "optim": ("sgd", {}),
    "optim_args": ("momentum=0.5", SGD),
    "adam_beta1": (0.5, {}),
    "adam_beta2": (0.5, {}),
    "adam_epsilon": (1.0, {}),
    "weight_decay": (0.5, {}),
    "max_grad_norm": (1e-3, SGD),
    "lr_scheduler_type": ("linear", EARLY),
    "lr_scheduler_kwargs": ({"num_cycles": 1.0}, {"lr_scheduler_type": "cosine"} | EARLY),
    "warmup_steps": (1, {}),
    "loss_type": ("cispo", {}),
    "epsilon": (0.01, {}),
    "epsilon_high": (0.02, {}),
    "use_bias_correction_kl": (False, {"beta": 0.5}),
}
REFUSED = {"tf32": (True, "tf32 requires Ampere")}
RUNS = {"torch_compile", "torch_compile_backend", "torch_compile_mode"}


def trained(folder: Path, extra: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the adapter after three steps."""
    model = tiny_policy.policy()
    first, second = (tiny_policy.groups_of_rows(2, seed=seed) for seed in (0, 1))
    rows = tiny_policy.always(first, second)
    tiny_policy.trainer(model, folder, rows, max_steps=3, **{"warmup_steps": 3} | extra).train()
    return tiny_policy.trainable(model)


def test_every_argument_that_passes_has_a_row() -> None:
    assert {*CHANGES, *REFUSED, *RUNS} == PASSED
    assert PASSED <= KNOWN


@pytest.mark.parametrize("name", CHANGES)
def test_an_argument_that_passes_changes_what_is_trained(name: str, tmp_path: Path) -> None:
    value, beside = CHANGES[name]
    before = trained(tmp_path / "before", beside)
    after = trained(tmp_path / "after", {**beside, name: value})
    assert tiny_policy.relative_difference(after, before) > 1e-4


def test_nothing_else_changes_what_is_trained(tmp_path: Path) -> None:
    first, second = (trained(tmp_path / name, {}) for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_model_is_compiled_as_asked(tmp_path: Path) -> None:
    rows = tiny_policy.always([])  # compiling takes 8 s
    extra = {**COMPILED, "torch_compile_mode": "reduce-overhead"}
    found = tiny_policy.trainer(tiny_policy.policy(), tmp_path, rows, max_steps=1, **extra)
    found.train()
    assert isinstance(found.model_wrapped, torch._dynamo.OptimizedModule)
    plugin = found.accelerator.state.dynamo_plugin
    assert (plugin.backend.value, plugin.mode) == ("EAGER", "reduce-overhead")


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_this_machine_cannot_serve_is_refused(name: str, tmp_path: Path) -> None:
    value, said = REFUSED[name]
    if name == "tf32" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    settings = settings_in(tmp_path, f"--grpo.trl={{{name}: {value}}}")
    with pytest.raises(UserError, match=f"{said}.*one of grpo.trl: {name}"):
        derive_grpo_config(settings, tmp_path)


@pytest.mark.parametrize("name", sorted(KNOWN - PASSED))
def test_every_other_argument_is_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    reason = explain_refusal(name)
    assert reason.startswith(("derived; set ", "fixed: "))
    assert len(reason) > 15
    with pytest.raises(UserError, match=re.escape(f"grpo.trl.{name}: {reason} (got 1)")):
        settings_in(tmp_path, f"--grpo.trl.{name}=1")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("{optim: sgd, adam_beta2: 0.9}", "adam_beta2 and grpo.trl.optim: sgd does not read it"),
        ("{optim_args: momentum=0.5}", "optim_args and grpo.trl.optim: adamw_torch does not read"),
        ("{lr_scheduler_type: constant, warmup_steps: 5}", "constant has no warm-up"),
        ("{lr_scheduler_type: greedy, warmup_steps: 5}", "greedy has no warm-up"),
        ("{lr_scheduler_kwargs: {num_cycles: 3}}", "constant_with_warmup does not read it"),
        ("{use_bias_correction_kl: false}", "a weight of 0 leaves nothing to correct"),
    ],
    ids=["no betas", "no options", "no warm-up", "none either", "no cycles", "no reference"],
)
def test_an_argument_that_another_one_silences_is_refused(
    flags: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        settings_in(tmp_path, f"--grpo.trl={flags}")
