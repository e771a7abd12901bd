"""The rows of a micro-batch as one, unpadded, in which what they begin with alike is there once.

The episodes of a group have one prompt, and the segments of an episode what a rewrite left in its
place. Sorted by their tokens, rows form a tree: each goes on from the one before where they part.

    system task a b c           system task a b c | d e | f        tokens
    system task d e        ->        0    1 2 3 4 | 2 3 | 1        positions
    system f                    of row 0            1     2

So all layers compute a shared token once. That is exact: what a token becomes depends on those
before it only, and its gradient is the sum over the rows that go on from it. Attention alone mixes
tokens: it runs row by row, a row's own tokens as queries, the whole row as keys.

For layers of plain attention under `sdpa` on a CPU; others (sliding windows, states of Mamba,
`eager`, a GPU, where nobody has measured it) get padded rows, which mean the same. A single mask
over the packed row would do without a function of our own, and compare each token with all others
of the micro-batch: half as much again as the rest of the forward at 4,096 tokens of a 0.5B model.

Shapes: B rows, T tokens of the longest, N packed tokens, H heads, D features of a head.

Tests: tests/train/rl/test_packed_rows.py, tests/train/rl/test_parity.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from envs.records import Segment
from train.models.cache_layers import has_plain_attention
from train.rl.segments import count_as_shared
from train.rollouts.kv_cache import count_shared

_NAME = "sdpa_packed_rows"
Spans = tuple[tuple[int, int], ...]


class PackedRow(NamedTuple):
    """A row with tokens of its own, which follow those of the row before among the packed ones.

    Attributes:
        num_own: How many.
        spans: Where all its tokens are, in order: starts and stops.
        mask: Which of them an own token sees, of shape (own, all); None: those up to itself, and
            there are no others.
    """

    num_own: int
    spans: Spans
    mask: torch.Tensor | None


@dataclass(frozen=True)
class Layout:
    """What a model takes for some rows, and where the hidden state of each token is in its output.

    Attributes:
        inputs: Arguments of the model.
        places_BT: Into hidden states that are flattened over rows; anything at padding.
    """

    inputs: dict[str, Any]
    places_BT: torch.Tensor


def can_pack(base: Any, device: torch.device) -> bool:
    """Tell whether all layers are plain attention that Transformers' interface serves."""
    if device.type != "cpu" or not base._supports_attention_backend:
        return False
    if base.config._attn_implementation not in ("sdpa", _NAME):
        return False
    return has_plain_attention(base.config)


def let_attend(base: Any) -> None:
    """Let the attention of a model take packed rows; others it computes as before."""
    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    base.set_attn_implementation(_NAME)


def describe_rows(rows: Sequence[Segment]) -> list[tuple[int, int]]:
    """Return for each row its length, and with how many tokens it begins like the one before."""
    alike = [0, *(count_shared(a.token_ids_T, b.token_ids_T) for a, b in pairwise(rows))]
    return [(len(row.token_ids_T), num) for row, num in zip(rows, alike, strict=True)]


def lay_out_padded(ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> Layout:
    """Return rows as they are."""
    places_BT = torch.arange(ids_BT.numel(), device=ids_BT.device).view_as(ids_BT)
    return Layout({"input_ids": ids_BT, "attention_mask": mask_BT}, places_BT)


def lay_out_packed(ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> Layout:
    """Return rows that share what each has in common with the one before it.

    Args:
        ids_BT: Padded on the right.
        mask_BT: 1 on tokens.
    """
    device, lengths = ids_BT.device, mask_BT.sum(1).tolist()
    is_alike_BT = (ids_BT[1:] == ids_BT[:-1]) & (mask_BT[1:] * mask_BT[:-1]).bool()
    common = [0, *is_alike_BT.long().cumprod(1).sum(1).tolist()]
    places_BT = torch.zeros_like(ids_BT)
    rows, ids, positions = list[PackedRow](), [], []
    spans: Spans = ()
    end = 0
    for row, length in enumerate(lengths):
        shared = count_as_shared(common[row])
        own = length - shared
        spans = _go_on(spans, shared, (end, end + own))
        if shared:
            places_BT[row, :shared] = places_BT[row - 1, :shared]
        places_BT[row, shared:length] = torch.arange(end, end + own, device=device)
        ids.append(ids_BT[row, shared:length])
        positions.append(torch.arange(shared, length, device=device))
        if own:
            sees = torch.ones(own, length, dtype=torch.bool, device=device).tril(shared)
            rows.append(PackedRow(own, spans, sees if shared else None))
        end += own
    inputs = {
        "input_ids": torch.cat(ids)[None],
        "position_ids": torch.cat(positions)[None],
        # one of four dimensions is handed on as it is; no other attention could take this one
        "attention_mask": mask_BT.new_empty(1, 1, 0, 0, dtype=torch.bool),
        "packed_rows": tuple(rows),
    }
    return Layout(inputs, places_BT)


def _go_on(spans: Spans, shared: int, own: tuple[int, int]) -> Spans:
    """Return where a row's tokens are: the first `shared` of another row's, and its own."""
    kept: list[tuple[int, int]] = []
    for start, stop in spans:
        if shared:
            kept.append((start, min(stop, start + shared)))
            shared -= kept[-1][1] - start
    if kept and kept[-1][1] == own[0]:
        kept[-1] = (kept[-1][0], own[1])
    elif own[0] < own[1]:
        kept.append(own)
    return tuple(kept)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed_rows: Sequence[PackedRow] | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each packed row, or as `sdpa` does without any.

    Args:
        module: The layer's attention.
        query: Of shape (1, H, N, D); keys and values may have fewer heads.
        key: See above.
        value: See above.
        attention_mask: As Transformers makes it; not looked at with packed rows.
        packed_rows: They cover all N tokens.
        dropout: Of attention weights.
        scaling: Of scores.
        options: Of `sdpa`.

    Returns:
        The mixed values, of shape (1, N, H, D), and no weights.
    """
    options |= {"dropout": dropout, "scaling": scaling}
    if packed_rows is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    parts = []
    for row, own in zip(packed_rows, query.split([r.num_own for r in packed_rows], 2), strict=True):
        part = torch.nn.functional.scaled_dot_product_attention(
            own,
            _gather(key, row.spans),
            _gather(value, row.spans),
            attn_mask=row.mask,
            dropout_p=dropout,
            is_causal=row.mask is None,
            scale=scaling,
            enable_gqa=True,  # which only the CPU's kernel does along with a mask
        )
        parts.append(part)
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _gather(states: torch.Tensor, spans: Spans) -> torch.Tensor:
    """Return the keys or values of a row; those that lie together are not copied."""
    parts = [states[:, :, start:stop] for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
