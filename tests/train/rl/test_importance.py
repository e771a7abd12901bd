"""What is said of sampler against trainer, and the weights: laws, and cases with a known answer."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.small_run import settings_in
from train.rl.importance import (
    MOST_WEIGHT,
    choose_form,
    describe_mismatch,
    no_mismatch,
    sum_mismatch,
    weigh,
)

LOG_RATIOS = st.lists(st.floats(-8, 8, width=32), max_size=20)


def described(log_ratios: list[float], form: str = "token_truncate") -> dict[str, float]:
    return describe_mismatch(sum_mismatch(torch.tensor(log_ratios), form=form), form=form)


@given(LOG_RATIOS)
def test_a_weight_is_the_ratio_up_to_its_bound(log_ratios: list[float]) -> None:
    found = {
        form: weigh(torch.tensor(log_ratios), form=form).tolist()
        for form in ("token_truncate", "token_mask", "off")
    }
    for index, ratio in enumerate(map(math.exp, log_ratios)):
        within = ratio <= MOST_WEIGHT
        assert found["token_truncate"][index] == pytest.approx(min(ratio, MOST_WEIGHT), rel=1e-5)
        assert found["token_mask"][index] == pytest.approx(ratio if within else 0.0, rel=1e-5)
        assert found["off"][index] == 1.0


@given(LOG_RATIOS, LOG_RATIOS)
def test_sums_of_parts_are_the_sums_of_the_whole(first: list[float], second: list[float]) -> None:
    parts = no_mismatch(torch.device("cpu"))
    for part in (first, second):
        parts = parts + sum_mismatch(torch.tensor(part), form="token_mask")
    whole = sum_mismatch(torch.tensor([*first, *second]), form="token_mask")
    torch.testing.assert_close(parts, whole)


def test_no_tokens_have_no_mismatch() -> None:
    assert described([]) == {}


def test_equal_log_probs_have_none_either() -> None:
    found = described([0.0] * 7)
    assert found.pop("mismatch_kl") == found.pop("sampling/share_over_10_percent") == 0.0
    assert found.pop("sampling/share_bounded") == 0.0
    assert set(found.values()) == {1.0}, "quantiles, and the mean weight"


def test_quantiles_shares_and_the_mean_weight_are_those_of_the_tokens() -> None:
    log_ratios = [*[0.0] * 97, math.log(0.5), math.log(3.0), 40.0]
    found = described(log_ratios)
    assert found["sampling/ratio_p01"] == pytest.approx(0.5, rel=1e-3)
    assert found["sampling/ratio_p50"] == 1.0
    assert found["sampling/ratio_p99"] == pytest.approx(3.0, rel=1e-3)
    assert found["sampling/share_over_10_percent"] == pytest.approx(0.03)
    assert found["sampling/share_bounded"] == pytest.approx(0.02)
    assert found["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.015)
    assert described(log_ratios, "off").keys() == found.keys() - {
        "sampling/share_bounded",
        "sampling/importance_sampling_ratio/mean",
    }


def test_stale_tokens_have_names_of_their_own() -> None:
    sums_S = sum_mismatch(torch.tensor([0.1, -0.4]), form="token_truncate")
    fresh, stale = (
        describe_mismatch(sums_S, form="token_truncate", is_stale=is_stale)
        for is_stale in (False, True)
    )
    assert list(stale.values()) == list(fresh.values())
    assert not set(stale) & set(fresh)
    assert all(name.startswith("stale/") for name in stale)


def test_the_kl_is_that_of_the_two_policies() -> None:
    """On as many samples of each token as the sampler's probabilities say."""
    sampler, trainer = [0.5, 0.3, 0.2], [0.4, 0.35, 0.25]
    log_ratios = []
    for p, q in zip(sampler, trainer, strict=True):
        log_ratios += [math.log(q / p)] * round(1000 * p)
    expected = sum(p * math.log(p / q) for p, q in zip(sampler, trainer, strict=True))
    assert described(log_ratios)["mismatch_kl"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "form"),
    [
        ((), "off"),
        (("--model.precision=bf16",), "token_truncate"),
        (("--model.precision=bf16", "--grpo.importance_weights=off"), "off"),
        (("--grpo.importance_weights=token_mask",), "token_mask"),
        (("--rollouts.max_staleness=1",), "token_truncate"),
    ],
    ids=["all float32", "bf16", "switched off", "chosen", "older versions"],
)
def test_weights_are_used_where_sampler_and_trainer_differ(
    overrides: tuple[str, ...], form: str, tmp_path: Path
) -> None:
    assert choose_form(settings_in(tmp_path, *overrides)) == form
