"""What was computed of contexts whose episodes wait for their tools, within a bound of memory.

A context mostly grows at its end, so the next turn's prompt begins with what was computed for the
last one; after `evict` or `compact` the part before the rewrite still does. The first turn of an
episode begins as those of others do: as far as the task's end in its own group, as far as the
system prompt's in others. Only the rest goes through the model again.

Shapes: H heads, T tokens, D features of a head.

Tests: tests/train/rollouts/test_kv_cache.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from envs.records import Ids

Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer, of shape (H, T, D)."""

_COMPARED = 64  # tokens at a time: one by one is slower, for Python's loop is


@dataclass(frozen=True)
class Prefix:
    """Keys and values of one row's first tokens.

    Attributes:
        ids: The tokens.
        pairs: Keys and values, a pair per layer of the table.
    """

    ids: Ids
    pairs: tuple[Pair, ...] = ()

    def first(self, num_tokens: int) -> "Prefix":
        """Return the part of its first tokens, which shares memory with the whole."""
        if not num_tokens:
            return EMPTY
        cut = tuple((keys[:, :num_tokens], values[:, :num_tokens]) for keys, values in self.pairs)
        return Prefix(self.ids[:num_tokens], cut)

    def copy(self) -> "Prefix":
        """Return it in memory of its own."""
        pairs = tuple((keys.clone(), values.clone()) for keys, values in self.pairs)
        return Prefix(self.ids, pairs)

    @property
    def num_bytes(self) -> int:
        """Size in memory if nothing else shares it."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.pairs)


EMPTY = Prefix(())


def count_shared(first: Ids, second: Ids) -> int:
    """Return with how many equal tokens two contexts begin."""
    most = min(len(first), len(second))
    start = 0
    while start < most and first[start : start + _COMPARED] == second[start : start + _COMPARED]:
        start += _COMPARED
    start = min(start, most)
    while start < most and first[start] == second[start]:
        start += 1
    return start


@dataclass
class PrefixStore:
    """Prefixes by episode; beyond the bound the least recently used goes.

    Attributes:
        max_bytes: Most memory that they may take together.
        num_bytes: What they take now.
    """

    max_bytes: float
    num_bytes: int = 0
    _kept: dict[int, Prefix] = field(default_factory=dict)

    def keep(self, episode: int, prefix: Prefix) -> None:
        """Keep what an episode has computed so far, in place of what it had before."""
        self.discard(episode)
        self._kept[episode] = prefix
        self.num_bytes += prefix.num_bytes
        while self.num_bytes > self.max_bytes:
            self.discard(next(iter(self._kept)))

    def find(self, episode: int) -> Prefix | None:
        """Return what an episode has computed, if it is still there."""
        return self._kept.get(episode)

    def discard(self, episode: int) -> None:
        """Forget an episode's."""
        self.num_bytes -= self._kept.pop(episode, EMPTY).num_bytes

    def __iter__(self) -> Iterator[Prefix]:
        return iter(self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)
