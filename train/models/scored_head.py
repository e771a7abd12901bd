"""The LM head at positions that count only: logits of others are never made.

On a CPU TRL 1.16 projects every position onto the vocabulary, prompts, tool results and padding
included, forth and back; of 152k words that is two fifths of a training step of a 0.5B model. Its
fused head takes labels that are shifted already, one for each hidden state it is given, so it is
given those of the chosen positions only.

Shapes: B rows, T tokens, N chosen positions, V vocabulary.

Tests: tests/train/models/test_scored_head.py, tests/train/rl/test_parity.py.
"""

import functools
import types
from typing import Any

import torch

_IGNORED = -100  # the label of a position without loss


def add_scored_head(base: Any) -> None:
    """Let a model with TRL's fused head score chosen positions.

    Without `fused_lm_head` it is as before. With it, it takes instead of labels of shape (B, T)
    `places_N` and `shift_labels` of shape (1, N): where in the hidden states, flattened over rows,
    and the token that follows there. Labels mean all positions whose next label is not -100. All
    per-token outputs have shape (1, N).

    Args:
        base: A causal LM whose forward TRL has replaced, without the adapter around it.
    """
    chosen: list[torch.Tensor] = []
    fused = base.forward

    def choose(module: Any, args: Any, output: Any) -> Any:
        del module, args
        if chosen:
            hidden = output.last_hidden_state
            output.last_hidden_state = hidden.flatten(0, -2).index_select(0, chosen[0])[None]
        return output

    @functools.wraps(type(base).forward)  # `generate` looks at the names of arguments
    def forward(
        self: Any,
        *args: Any,
        fused_lm_head: bool = False,
        labels: torch.Tensor | None = None,
        shift_labels: torch.Tensor | None = None,
        places_N: torch.Tensor | None = None,  # noqa: N803
        **options: Any,
    ) -> Any:
        del self
        if not fused_lm_head:
            return fused(*args, labels=labels, shift_labels=shift_labels, **options)
        if places_N is None:
            assert labels is not None, "neither places nor labels"
            places_N, shift_labels = _find_labelled(labels)
        chosen.append(places_N)
        try:
            return fused(*args, fused_lm_head=True, shift_labels=shift_labels, **options)
        finally:
            chosen.clear()

    base.base_model.register_forward_hook(choose)
    base.forward = types.MethodType(forward, base)


def _find_labelled(labels_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places whose next token has a label, of shape (N,), and those of shape (1, N)."""
    next_BT = labels_BT[:, 1:]
    is_scored_BT = next_BT != _IGNORED
    rows_N, at_N = is_scored_BT.nonzero(as_tuple=True)
    return rows_N * labels_BT.shape[1] + at_N, next_BT[is_scored_BT][None]
