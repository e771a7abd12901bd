"""The KV cache of a batch of episodes that keeps, from turn to turn, what their contexts share.

A context mostly grows at its end, so the next turn's prompt begins with what was computed for the
last one; after `evict` or `compact` the part before the rewrite still does. Only the rest goes
through the model again.

Columns of a batch: [pads, prefix | pads, fresh tokens | generated tokens]; the attention mask hides
the pads.

Shapes: B rows, H heads, T tokens (P of them room that is made once), D features of a head.

Tests: tests/train/rollouts/test_engine.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from envs.records import Ids


@dataclass(frozen=True)
class Prefix:
    """Keys and values of one row's first tokens, one pair of (H, T, D) tensors per layer."""

    ids: Ids
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()

    def before(self, ids: Ids) -> "Prefix":
        """Return the part that `ids` begin with, at most all but their last token."""
        shared = min(len(self.ids), len(ids) - 1)
        for index in range(shared):
            if self.ids[index] != ids[index]:
                shared = index
                break
        if not shared:
            return EMPTY
        parts = tuple((keys[:, :shared], values[:, :shared]) for keys, values in self.layers)
        return Prefix(self.ids[:shared], parts)


EMPTY = Prefix(())


class GrowingLayer(DynamicLayer):
    """Keys and values in room that is made once; `DynamicLayer` copies them for every token."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room, self._length = room, 0
        self._keys_BHPD: torch.Tensor
        self._values_BHPD: torch.Tensor

    def fill(self, prefixes_B: Sequence[Prefix], *, layer: int) -> None:
        """Put each row's prefix at the right end of the first columns."""
        first = next(prefix for prefix in prefixes_B if prefix.ids)
        self._length = max(len(prefix.ids) for prefix in prefixes_B)
        self._make(len(prefixes_B), *first.layers[layer])
        for row, prefix in enumerate(prefixes_B):
            if prefix.ids:
                columns = slice(self._length - len(prefix.ids), self._length)
                self._keys_BHPD[row, :, columns], self._values_BHPD[row, :, columns] = (
                    prefix.layers[layer]
                )
        self._show()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the columns of one forward pass; returns all so far."""
        if not self.is_initialized:
            self._make(len(key_states), key_states[0], value_states[0])
        columns = slice(self._length, self._length + key_states.shape[-2])
        self._keys_BHPD[:, :, columns] = key_states
        self._values_BHPD[:, :, columns] = value_states
        self._length = columns.stop
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only some rows."""
        self._keys_BHPD = self._keys_BHPD[indices]
        self._values_BHPD = self._values_BHPD[indices]
        self._show()

    def _make(self, num_rows: int, keys_HTD: torch.Tensor, values_HTD: torch.Tensor) -> None:
        # zeros: whatever lies in a hidden column is still multiplied, by zero
        for name, like in (("_keys_BHPD", keys_HTD), ("_values_BHPD", values_HTD)):
            room = (num_rows, like.shape[0], self._room, like.shape[2])
            setattr(self, name, like.new_zeros(room))
        self.dtype, self.device, self.is_initialized = keys_HTD.dtype, keys_HTD.device, True

    def _show(self) -> None:
        self.keys = self._keys_BHPD[:, :, : self._length]
        self.values = self._values_BHPD[:, :, : self._length]


@dataclass
class Batch:
    """What a forward pass over several rows takes, and the cache that it fills."""

    cache: DynamicCache
    ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    positions_BT: torch.Tensor

    def prefix(self, row: int, ids: Ids) -> Prefix:
        """Return a copy of what the cache holds of one row: keys and values of `ids`."""
        columns = self.mask_BT[row].nonzero()[:, 0]
        assert len(columns) == len(ids), "the mask hides what is no token of the row"
        pairs = ((layer.keys[row], layer.values[row]) for layer in self.cache.layers)
        return Prefix(ids, tuple((keys[:, columns], values[:, columns]) for keys, values in pairs))


def make_batch(
    prefixes_B: Sequence[Prefix],
    fresh_B: Sequence[Ids],
    *,
    num_generated: int,
    num_layers: int,
    pad_id: int,
    device: torch.device,
) -> Batch:
    """Return a batch in which each row goes on from its prefix with its fresh tokens.

    Args:
        fresh_B: At least one token each.
        num_generated: Most tokens that follow.
    """
    before, width = max(len(p.ids) for p in prefixes_B), max(map(len, fresh_B))
    cache = DynamicCache()
    cache.layers = [GrowingLayer(before + width + num_generated) for _ in range(num_layers)]
    if before:
        for index, layer in enumerate(cache.layers):
            layer.fill(prefixes_B, layer=index)
    ids = [[pad_id] * (width - len(fresh)) + list(fresh) for fresh in fresh_B]
    mask_BT = torch.tensor(
        [
            [0] * (before - len(prefix.ids))
            + [1] * len(prefix.ids)
            + [0] * (width - len(fresh))
            + [1] * len(fresh)
            for prefix, fresh in zip(prefixes_B, fresh_B, strict=True)
        ],
        device=device,
    )
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)[:, before:]
    return Batch(cache, torch.tensor(ids, device=device), mask_BT, positions_BT)
