"""The sampler's log-probs against the trainer's: how far apart, and weights that correct for it.

What samples (folded weights, a KV cache, another precision, a server) is never quite the policy
whose gradient is taken. With mu the sampler's probability of a token and pi_prox the trainer's just
before the first update on a rollout, a token's weight is pi_prox / mu, bounded: `token_truncate`
takes at most 2 (as IMPALA, arXiv 1802.01561, truncates), `token_mask` drops the tokens above (the
upper side of IcePop, arXiv 2510.18855). The weight multiplies the token's advantage; what the loss
clips stays pi / pi_prox, the movement since (decoupled objective, arXiv 2110.00641). All of it is
per token, so no cut into rows, micro-batches or processes changes it.

Tokens of an older version of the policy (`rollouts.max_staleness`) get the same weights: for them
the ratio also holds what the updates since have moved. They stay out of the comparison, which looks
for a fault in the sampler, and have one of their own.

Shapes: N sampled tokens; S sums over them, which add up over micro-batches and processes.
"""

from typing import Literal

import torch

from train.config.settings import Settings
from train.models.model import trains_in_bf16
from train.rollouts.backend import Backend

Form = Literal["token_truncate", "token_mask", "off"]

MOST_WEIGHT = 2.0  # of a token: bounds the variance, at the price of a bias
FAR = 0.1  # of a ratio from 1
_QUANTILES = {"p01": 0.01, "p50": 0.5, "p99": 0.99}
_BIN = 1e-3  # width of the histogram's bins in the log-ratio: quantiles are right to 0.1 %
_MOST_BINS = 5_000  # on each side of 0; a log-ratio beyond 5 counts as 5
_NUM_SUMS = 5  # before the histogram: tokens, KL, far ones, weights, bounded ones


def choose_form(settings: Settings, *, backend: Backend = "transformers") -> Form:
    """Return how to correct: by default only where sampler and trainer compute differently.

    In float32 throughout they are the same function up to rounding (docs/off_policy.md), unless
    what samples is an older version, or servers with kernels of their own.
    """
    model, chosen = settings.model, settings.grpo.importance_weights
    if chosen != "auto":
        return chosen
    is_lossy = trains_in_bf16(settings) or model.dtype == "bfloat16" or model.load_in_4bit
    differs = is_lossy or backend == "vllm" or settings.rollouts.max_staleness
    return "token_truncate" if differs else "off"


def weigh(log_ratios: torch.Tensor, *, form: Form) -> torch.Tensor:
    """Return the weights of tokens, of the same shape.

    Args:
        log_ratios: log pi_prox - log mu, in nats.
        form: What becomes of a ratio above `MOST_WEIGHT`; with `off` all weights are 1.
    """
    if form == "off":
        return torch.ones_like(log_ratios)
    ratios = log_ratios.exp()
    if form == "token_mask":
        return ratios.masked_fill(ratios > MOST_WEIGHT, 0.0)
    return ratios.clamp(max=MOST_WEIGHT)


def sum_mismatch(log_ratios_N: torch.Tensor, *, form: Form) -> torch.Tensor:
    """Return the sums over tokens that `describe_mismatch` reads, of shape (S,), in float64."""
    exact_N = log_ratios_N.double()
    ratios_N = exact_N.exp()
    bins_N = (exact_N / _BIN).round().clamp(-_MOST_BINS, _MOST_BINS).long() + _MOST_BINS
    sums = [
        torch.ones_like(exact_N),
        ratios_N - 1.0 - exact_N,
        (ratios_N - 1.0).abs() > FAR,
        weigh(exact_N, form=form),
        ratios_N > MOST_WEIGHT,
    ]
    return torch.cat(
        [
            torch.stack([each.double().sum() for each in sums]),
            torch.bincount(bins_N, minlength=2 * _MOST_BINS + 1).double(),
        ]
    )


def no_mismatch(device: torch.device) -> torch.Tensor:
    """Return the sums over no tokens, of shape (S,)."""
    size = _NUM_SUMS + 2 * _MOST_BINS + 1
    return torch.zeros(size, dtype=torch.float64, device=device)


def describe_mismatch(
    sums_S: torch.Tensor, *, form: Form, is_stale: bool = False
) -> dict[str, float]:
    """Return a step's metrics, none without tokens.

    `mismatch_kl` estimates KL(mu, pi_prox) in nats per token, by the mean of r - 1 - log r over
    sampled tokens with r = pi_prox / mu (never negative; Schulman, "Approximating KL divergence",
    2020). Then quantiles of r and the share of tokens whose r is over 10 % from 1; where weights
    are used, their mean and the share of tokens above the bound. Those of stale tokens are called
    `stale/...`.
    """
    num_tokens, kl, far, weights, bounded = sums_S[:_NUM_SUMS].tolist()
    if not num_tokens:
        return {}
    up_to = sums_S[_NUM_SUMS:].cumsum(0)
    room = "stale" if is_stale else "sampling"
    name_kl = "stale/kl" if is_stale else "mismatch_kl"
    found = {name_kl: kl / num_tokens, f"{room}/share_over_10_percent": far / num_tokens}
    for name, share in _QUANTILES.items():
        place = int((up_to < share * num_tokens).sum())
        found[f"{room}/ratio_{name}"] = float(torch.tensor((place - _MOST_BINS) * _BIN).exp())
    if form != "off":
        found[f"{room}/importance_sampling_ratio/mean"] = weights / num_tokens
        found[f"{room}/share_bounded"] = bounded / num_tokens
    return found
