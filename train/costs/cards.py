"""Cards: what the maker states, and the shares of it that programs reach.

Tests: tests/train/costs/test_serving.py.
"""

from dataclasses import dataclass

from envs.errors import UserError, suggest

FLOPS_SHARE = 0.4  # of its peak that long products reach, in training and in reading prompts
BANDWIDTH_SHARE = 0.6  # of its memory's speed that decoding reaches
MEMORY_SHARE = 0.9  # that weights and caches may take: vLLM's default of gpu_memory_utilization


@dataclass(frozen=True)
class Card:
    """One card, by the maker's data sheet.

    Attributes:
        name: Part of the name by which torch knows it.
        flops: Dense bf16 operations per second.
        bandwidth: Bytes per second of its memory.
        memory: Bytes.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float

    def compute_s(self, flops: float) -> float:
        """Return the seconds that operations take where products are long."""
        return flops / (FLOPS_SHARE * self.flops)

    def read_s(self, num_bytes: float) -> float:
        """Return the seconds that reading so much of its memory takes."""
        return num_bytes / (BANDWIDTH_SHARE * self.bandwidth)


CARDS = [  # NVIDIA's data sheets; a name that holds another stands before it
    Card("H100 NVL", 835e12, 3.9e12, 94e9),
    Card("H100 PCIe", 756e12, 2.0e12, 80e9),
    Card("H100", 989e12, 3.35e12, 80e9),  # SXM
    Card("H200", 989e12, 4.8e12, 141e9),
    Card("B200", 2250e12, 8.0e12, 180e9),
    Card("A100", 312e12, 2.04e12, 80e9),  # SXM, of 80 GB
    Card("L40S", 362e12, 0.864e12, 48e9),
    Card("L4", 121e12, 0.3e12, 24e9),
    Card("4090", 165e12, 1.01e12, 24e9),
]


def find_card(name: str) -> Card:
    """Return the card of this name.

    Raises:
        UserError: There is none.
    """
    found = {card.name.lower(): card for card in CARDS}.get(name.lower())
    if found is None:
        remedy = suggest(name, [card.name for card in CARDS])
        raise UserError("no such card is listed", got=name, remedy=remedy)
    return found


def share_of_peak(flops: float, seconds: float, device_name: str) -> float | None:
    """Return the share of a card's peak, None of a device that is not listed.

    Args:
        flops: Operations that were done.
        seconds: In so much time.
        device_name: Of torch, such as `NVIDIA H100 80GB HBM3`.
    """
    peaks = [card.flops for card in CARDS if card.name in device_name]
    return flops / seconds / peaks[0] if peaks else None
