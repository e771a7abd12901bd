"""The head sees labelled positions only; losses and gradients are those of TRL's own forward."""

import copy
from typing import Any

import pytest
import torch
from peft import PeftModel
from trl.trainer.utils import add_fused_lm_head

from tests.train import tiny_policy
from tests.train.tiny_policy import gradients, relative_difference
from train.models.scored_head import add_scored_head

LABELS = torch.tensor([[-100, 4, -100, -100, 8, 9], [-100, -100, 5, 6, -100, -100]])
IDS = LABELS.where(LABELS != -100, 3)


def with_heads() -> tuple[PeftModel, PeftModel]:
    """Return a policy with TRL's fused head, and one with ours around it."""
    models = tiny_policy.policy(), tiny_policy.policy()
    for model in models:
        add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    add_scored_head(models[1].get_base_model())
    return models


def score(model: PeftModel, labels: torch.Tensor = LABELS) -> Any:
    found = model(input_ids=IDS, labels=labels, fused_lm_head=True)
    found.loss.backward()
    return found


def test_losses_sums_and_gradients_are_those_of_trl() -> None:
    theirs, ours = with_heads()
    expected, found = score(theirs), score(ours)
    assert found.log_probs.shape == (1, 5) != expected.log_probs.shape
    torch.testing.assert_close(found.loss, expected.loss)
    assert found.label_mask.sum() == expected.label_mask.sum() == 5
    for name in ("log_probs", "entropy", "is_top1"):
        torch.testing.assert_close(found[name].sum(), expected[name].sum(), msg=name)
    assert relative_difference(gradients(ours), gradients(theirs)) < 1e-5


def test_places_may_be_chosen_freely_and_twice() -> None:
    _, ours = with_heads()
    places = torch.tensor([0, 8, 8, 3])
    following = torch.tensor([[4, 6, 1, 8]])
    found = ours(
        input_ids=IDS, places_N=places, shift_labels=following, fused_lm_head=True
    ).log_probs
    logps = ours(input_ids=IDS).logits.log_softmax(-1).flatten(0, 1)
    torch.testing.assert_close(found[0], logps[places, following[0]])


def test_without_labels_there_is_a_gradient_of_zero() -> None:
    _, ours = with_heads()
    score(ours, torch.full_like(LABELS, -100))
    assert all(not gradient.any() for gradient in gradients(ours).values())


@pytest.mark.parametrize("with_labels", [True, False])
def test_the_usual_forward_is_as_before(with_labels: bool) -> None:
    plain = tiny_policy.policy()
    _, ours = with_heads()
    score(copy.deepcopy(ours))  # nothing stays chosen
    labels = LABELS if with_labels else None
    found, expected = (each(input_ids=IDS, labels=labels) for each in (ours, plain))
    torch.testing.assert_close(found.logits, expected.logits)
    assert (found.loss is None) == (not with_labels)
