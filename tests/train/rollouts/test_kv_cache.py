"""What is kept stays within its bound, and the least recently used goes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from envs.records import Ids
from train.rollouts.kv_cache import Prefix, PrefixStore, count_shared

IDS = st.lists(st.integers(0, 1), max_size=200).map(tuple)


def prefix(*ids: int) -> Prefix:
    pair = (torch.zeros(1, len(ids), 4), torch.zeros(1, len(ids), 4))
    return Prefix(ids, (pair,))


@given(IDS, IDS, IDS)
def test_the_shared_beginning_is_the_longest(head: Ids, a: Ids, b: Ids) -> None:
    first, second = head + a, head + b
    shared = count_shared(first, second)
    assert shared >= len(head) and first[:shared] == second[:shared]
    assert first[shared : shared + 1] != second[shared : shared + 1] or shared == min(
        len(first), len(second)
    )


def test_the_least_recently_used_goes() -> None:
    size = prefix(1, 2, 3).num_bytes
    store = PrefixStore(max_bytes=2 * size)
    for episode in (1, 2, 1, 3):
        store.keep(episode, prefix(episode, 2, 3))
    assert store.find(2) is None and store.find(1) and store.find(3)
    assert store.num_bytes == 2 * size
    store.discard(1)
    assert len(list(store)) == 1 and store.num_bytes == size


def test_what_is_larger_than_the_bound_is_not_kept() -> None:
    store = PrefixStore(max_bytes=10)
    store.keep(1, prefix(1, 2, 3))
    assert not list(store) and store.num_bytes == 0
