"""What acts for a policy's name; folders are tried in test_evaluate.py."""

from datetime import datetime
from pathlib import Path

import torch

from tests.train.small_run import add_policy, add_tokenizer, settings_in
from train.config.policy_names import parse_entry
from train.models.model import load_tokenizer, run_tokenizer
from train.rollouts.policy_sources import find_source

NOW = datetime(2026, 1, 1)


def test_stages_act_with_what_they_trained(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    add_tokenizer(settings)
    policy = add_policy(settings).eval()
    ids_BT = torch.tensor([[1, 5, 7, 300, 2]])
    tokenizer = load_tokenizer(run_tokenizer(settings))
    grpo, sft, base = (
        find_source(settings, parse_entry(name), now=NOW).load_model(tokenizer).eval()
        for name in ("grpo", "sft", "base")
    )
    with torch.inference_mode():
        torch.testing.assert_close(grpo(ids_BT).logits, policy(ids_BT).logits)
        with policy.disable_adapter():
            expected = policy(ids_BT).logits
        torch.testing.assert_close(sft(ids_BT).logits, expected)
        torch.testing.assert_close(base(ids_BT).logits, expected)  # here SFT trained nothing
        assert not torch.allclose(grpo(ids_BT).logits, expected)
