"""What a vLLM server takes of a GPU, and whether a trainer fits beside it: formulas, not measured.

On a GPU that both use, the server takes its share while it plays and sleeps while the policy trains
(level 1: weights go to RAM, keys and values are dropped). The trainer holds its own all the time.

Tests: tests/train/recipes/test_server_memory.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from train.config.settings import Settings
from train.models.model import ParameterCount
from train.recipes.estimate import Memory, count_kv_bytes, weight_bytes
from train.rollouts.backend import ALONE, SHARED

_CARD_BYTES = 80e9  # where no GPU is at hand: that of train/recipes/gpu_time.py
_BESIDE_BYTES = 3e9  # of a server, besides weights, keys and values: a forward pass, CUDA graphs
_ASLEEP_BYTES = 2e9  # what a sleeping server leaves on the card: its context and graphs
ASSUMED = (
    f"assumed, not measured: a server takes {_BESIDE_BYTES / 1e9:g} GB besides weights, keys and "
    f"values, and {_ASLEEP_BYTES / 1e9:g} GB asleep"
)


@dataclass(frozen=True)
class ServerMemory:
    """What a server holds on one card.

    Attributes:
        taken: Bytes of its share.
        weights: Bytes of the base, whole.
        num_tokens: Tokens whose keys and values fit into the rest.
        window_tokens: Of the largest window.
    """

    taken: float
    weights: int
    num_tokens: int
    window_tokens: int

    @property
    def num_windows(self) -> int:
        """Largest windows that it holds at once; with none it does not start."""
        return self.num_tokens // self.window_tokens


def count_card_bytes() -> float:
    """Return the memory of the first GPU here, else of the one that is assumed."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return _CARD_BYTES


def measure_server(
    settings: Settings, *, shape: Any, count: ParameterCount, card: float, share: float
) -> ServerMemory:
    """Return what a server holds that takes a share of a card of so many bytes."""
    weights = weight_bytes(settings, shape=shape, count=count)
    rest = share * card - weights - _BESIDE_BYTES
    num_tokens = int(max(0.0, rest) // count_kv_bytes(settings, shape=shape))
    return ServerMemory(share * card, weights, num_tokens, settings.largest_window)


def describe_servers(
    settings: Settings, *, shape: Any, count: ParameterCount, trainers: Mapping[str, Memory]
) -> str:
    """Return what servers hold on cards of their own and on shared ones, and who fits there.

    Args:
        settings: The experiment.
        shape: The model's Transformers config.
        count: Its parameters.
        trainers: What a device holds that trains, by layout.
    """
    card = count_card_bytes()
    lines = []
    for name, share in (("of its own", ALONE), ("shared with a trainer", SHARED)):
        found = measure_server(settings, shape=shape, count=count, card=card, share=share)
        room = (
            f"keys and values of {found.num_tokens:,} tokens, {found.num_windows} largest windows"
        )
        lines.append(
            f"a server on a GPU {name} takes {share:.0%} of {card / 1e9:.0f} GB: weights "
            f"{found.weights / 1e9:.1f} GB, {room if found.num_windows else 'NO room for a window'}"
        )
    for layout, memory in trainers.items():
        beside, asleep = (1 - SHARED) * card, card - _ASLEEP_BYTES
        lines.append(
            f"a trainer beside it ({layout}): {memory.held / 1e9:.1f} GB while it plays, of "
            f"{beside / 1e9:.1f} GB: {_say(memory.held <= beside)}; {memory.training / 1e9:.1f} GB "
            f"while it sleeps, of {asleep / 1e9:.1f} GB: {_say(memory.training <= asleep)}"
        )
    return "\n".join([*lines, ASSUMED])


def _say(fits: bool) -> str:
    return "fits" if fits else "DOES NOT FIT"
