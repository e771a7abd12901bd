"""Tasks per hour of a model on cards: formulas, and what they assume. Nothing here was measured.

    estimate_serving(shape, turns, card=find_card("H100"), num_cards=1, caches=True)

It tells which of memory, reading and sampling is short, and ten tasks from a thousand. What a run
reached is in its files: `tightrope cost run`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from envs.errors import UserError
from train.costs.cards import BANDWIDTH_SHARE, FLOPS_SHARE, MEMORY_SHARE, Card
from train.costs.flops import count_flops
from train.costs.session import Turn
from train.costs.shape import ModelShape

MOST_ROWS = 256  # that vLLM decodes at once: its default of `max_num_seqs`
FILLED = 0.7  # of the rows, on average
ASSUMED = (
    f"assumed, not measured: {FLOPS_SHARE:.0%} of the peak in reading prompts, "
    f"{BANDWIDTH_SHARE:.0%} of the memory's speed in sampling,\n{MEMORY_SHARE:.0%} of the memory "
    f"for weights and what sessions keep at their end, at most {MOST_ROWS} at once, {FILLED:.0%} "
    "filled;\nleft out: tools and waiting for them, traffic between cards, an adapter's share, "
    "failed tasks"
)


@dataclass(frozen=True)
class Serving:
    """How cards get on with many sessions at once.

    Attributes:
        sessions: That fit at once, each at its longest.
        reading_s: Seconds of all cards for the prompts of one session.
        sampling_s: And for what it samples, its share of the batch.
    """

    sessions: int
    reading_s: float
    sampling_s: float

    @property
    def tasks_per_hour(self) -> float:
        """Sessions that end in an hour."""
        return 3600 / (self.reading_s + self.sampling_s)


def count_sessions(shape: ModelShape, longest: int, *, card: Card, num_cards: int) -> int:
    """Return how many requests of so many tokens fit beside the weights.

    Raises:
        UserError: Not one.
    """
    room = MEMORY_SHARE * card.memory * num_cards - shape.weight_bytes
    fit = int(room // shape.kv_bytes(longest)) if room > 0 else 0
    if fit < 1:
        needed = shape.weight_bytes + shape.kv_bytes(longest)
        raise UserError(
            "weights and one session do not fit",
            got=f"{needed / 1e9:,.1f} GB on {num_cards} x {card.name} of {card.memory / 1e9:.0f}",
            remedy=f"give --cards {-(-needed // (MEMORY_SHARE * card.memory)):.0f}, fewer --bits "
            "or a shorter session",
        )
    return min(MOST_ROWS, fit)


def estimate_serving(
    shape: ModelShape, turns: Sequence[Turn], *, card: Card, num_cards: int, caches: bool
) -> Serving:
    """Return what cards that share a model do with many sessions alike.

    Sampling a token of the whole batch takes the longer of two times: to read the weights and what
    is kept of all sessions, and to compute. Reading takes operations alone: of new tokens, which
    attend to those before, or without a cache of whole prompts.

    Args:
        shape: The model, with its parameters.
        turns: Of one session.
        card: Each of the cards.
        num_cards: Over which weights and caches are spread evenly.
        caches: Prefixes are kept from turn to turn.

    Raises:
        UserError: Weights and one session do not fit.
    """
    longest = max(turn.prompt + turn.sampled for turn in turns)
    sessions = count_sessions(shape, longest, card=card, num_cards=num_cards)
    filled = max(1.0, FILLED * sessions)
    sampled = sum(turn.sampled for turn in turns)
    held = sum(shape.kv_bytes(turn.prompt + turn.sampled / 2) * turn.sampled for turn in turns)
    read_s = card.read_s(shape.weight_bytes + filled * held / sampled) / num_cards
    one = count_flops(shape, num_new=1, num_before=longest // 2, num_scored=1).total
    token_s = max(read_s, card.compute_s(filled * one) / num_cards)
    reading = sum(
        count_flops(
            shape,
            num_new=turn.new if caches else turn.prompt,
            num_before=turn.cached if caches else 0,
            num_scored=1,
        ).total
        for turn in turns
    )
    return Serving(
        sessions=sessions,
        reading_s=card.compute_s(reading) / num_cards,
        sampling_s=sampled * token_s / filled,
    )
