"""What an episode cost: each token of each turn, weighted as new, cached or sampled.

The meter reads the turns, and each model call is one turn: calls that failed, `compact` calls and
their summaries, and all segments are on it. So cost cannot be moved out of sight (invariant 5).
"""

from dataclasses import dataclass
from typing import Final, Literal

from envs.records import Compacted, Episode, Evicted, Turn

CostPreset = Literal["tokens", "price"]


@dataclass(frozen=True, kw_only=True)
class CostWeights:
    """Cost of one token of each kind, in units of one new prompt token."""

    new: float
    cached: float
    sampled: float


PRESETS: Final[dict[CostPreset, CostWeights]] = {
    "tokens": CostWeights(new=1.0, cached=1.0, sampled=1.0),
    "price": CostWeights(new=1.0, cached=0.1, sampled=5.0),
}
"""`tokens` has the unit of tokens per solved, so holding context costs; `price` is a price list."""


def cost(episode: Episode, *, weights: CostWeights) -> float:
    """Return C_i = max(reference cost, sum over turns of w_n*new + w_c*cached + w_s*sampled).

    The reference cost is a floor: below what the shortest known repair needs, saving earns nothing.
    It is in billed tokens under all weights: an edit without a look, far below whoever had to read.
    """
    metered = sum(_turn_cost(turn, weights) for turn in episode.turns)
    return max(episode.reference_cost, metered)


def billed_tokens(episode: Episode) -> int:
    """Prompt + sampled tokens, summed over all turns."""
    return sum(turn.sample_end for turn in episode.turns)


def sampled_tokens(episode: Episode) -> int:
    """T_i: tokens sampled over all segments."""
    return sum(turn.sample_end - turn.prompt_end for turn in episode.turns)


def peak_context(episode: Episode) -> int:
    """Tokens of the largest view (the prompt of one turn, without what was then sampled)."""
    return max((turn.prompt_end for turn in episode.turns), default=0)


def num_segments(episode: Episode) -> int:
    """Number of segments that hold a turn, which is the number of training rows."""
    return len({turn.segment for turn in episode.turns})


def num_compactions(episode: Episode) -> int:
    """How often the model replaced the history by a summary, of its own accord."""
    return sum(isinstance(each, Compacted) and not each.automatic for each in episode.events)


def num_evictions(episode: Episode) -> int:
    """How often the model replaced observations by stubs (one `evict` call may name several)."""
    return sum(isinstance(each, Evicted) and not each.automatic for each in episode.events)


def num_automatic_rewrites(episode: Episode) -> int:
    """How often `context.strategy` rewrote the context: masked results, or asked for a summary."""
    rewrites = (each for each in episode.events if isinstance(each, Evicted | Compacted))
    return sum(each.automatic for each in rewrites)


def _turn_cost(turn: Turn, weights: CostWeights) -> float:
    # offsets count from the start of the segment, and a view is a whole prefix of it: prompt_end is
    # its size
    new = turn.prompt_end - turn.num_cached
    sampled = turn.sample_end - turn.prompt_end
    return weights.new * new + weights.cached * turn.num_cached + weights.sampled * sampled
