"""Alarms: signs in the metrics of a GRPO run that it goes wrong, a sentence each."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

LEAST_ENTROPY_SHARE = 0.3  # of the first step's: below, the policy no longer explores
MOST_MALFORMED = 0.15  # of all calls
MOST_GRADIENT = 5.0  # times the median so far
MOST_SILENT = 0.5  # of the groups of the last steps
# Between sampler and trainer of the same version. Measured on SmolLM2-135M, both in bf16 on a CPU:
# 0.002 nats per token, and 12 % of the tokens over 10 % off (docs/off_policy.md).
MOST_MISMATCH = 0.01  # nats per token
MOST_FAR = 0.3  # of the sampled tokens
NUM_STEPS = 10  # before a gradient norm or the share of silent groups says anything


def find_alarms(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the last of the metrics `rows` (one per step) gives reason to look into.

    Returns:
        A sentence per alarm, by its name: entropy, malformed, gradient, signal, mismatch.
    """
    if not rows:
        return {}
    found = {}
    now = rows[-1]
    entropies = [row["entropy"] for row in rows if row.get("entropy")]  # none without rows
    start, entropy = entropies[0] if entropies else None, now.get("entropy")
    if start and entropy is not None and entropy < LEAST_ENTROPY_SHARE * start:
        found["entropy"] = f"entropy {entropy:.2f}, under {LEAST_ENTROPY_SHARE:.0%} of {start:.2f}"
    malformed = now.get("share_malformed_calls") or 0.0
    if malformed > MOST_MALFORMED:
        found["malformed"] = f"{malformed:.0%} of the calls are malformed"
    norms = [row["grad_norm"] for row in rows[:-1] if row.get("grad_norm")]
    norm = now.get("grad_norm")
    if len(norms) >= NUM_STEPS and norm and norm > MOST_GRADIENT * statistics.median(norms):
        found["gradient"] = f"gradient norm {norm:.2g}, median {statistics.median(norms):.2g}"
    shares = [row.get("share_groups_without_signal", 0.0) for row in rows[-NUM_STEPS:]]
    if len(shares) == NUM_STEPS and statistics.fmean(shares) > MOST_SILENT:
        found["signal"] = f"{statistics.fmean(shares):.0%} of the groups have no signal"
    kl, far = now.get("mismatch_kl") or 0.0, now.get("sampling/share_over_10_percent") or 0.0
    if kl > MOST_MISMATCH or far > MOST_FAR:
        found["mismatch"] = (
            f"sampler and trainer differ: KL {kl:.2g}, {far:.0%} of the tokens by over 10%"
        )
    return found
