"""Which layers of a base generation can hold in its cache.

Attention keeps keys and values for each token, so what contexts share is not read again. Layers
that keep a state for each row instead (Mamba, gated delta nets, short convolutions) work too, but
read every context anew. Not served: caches of indexed or compressed attention.

Tests: tests/train/recipes/test_situations.py.
"""

from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import (
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

ATTENTION = (DynamicLayer, DynamicSlidingWindowLayer)
MIXED = (LinearAttentionAndFullAttentionLayer, LinearAttentionAndSlidingWindowAttentionLayer)
WITHOUT_KEYS = (LinearAttentionLayer, DummyLayer)


def has_plain_attention(config: Any) -> bool:
    """Tell whether all layers attend to all tokens before, and keep keys and values of each."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def list_unserved(config: Any) -> list[str]:
    """Return the kinds of layers of a model that generation has no cache for."""
    try:
        layers = DynamicCache(config=config).layers
    except KeyError as error:
        return [str(error.args[0])]
    kinds = {type(layer) for layer in layers}
    return sorted(kind.__name__ for kind in kinds - {*ATTENTION, *MIXED, *WITHOUT_KEYS})
