"""What each `context.strategy` does by itself, and when; what the model may do, its tools say.

full_history   nothing: a view that does not fit ends the episode
mask           observations become stubs, but for the last ones; many at a time, so that the views
               between begin alike and a prefix cache serves them (SWE-agent's `polling`; measured
               against summaries in arXiv 2508.21433)
summarize      where the view is filled so far, the model is asked for a summary, which it samples
               and is trained on; it replaces all turns
hybrid         masks; asks where that is not enough
learned        nothing: the model has the tools `note`, `evict` and `compact`
learned_net    the tools, and a summary is asked for at 95 %: a net, nothing overflows

What is done here is an event like the model's own, marked as automatic: the limit of rewrites does
not count it. Tests: tests/envs/context/test_strategies.py.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from envs.records import Observation, Strategy, Thresholds, ToolCall

NET_FILL = 0.95  # of what may be held: where `learned_net` asks
MASKING: tuple[Strategy, ...] = ("mask", "hybrid")
ASKING: tuple[Strategy, ...] = ("summarize", "hybrid", "learned_net")


@dataclass(frozen=True)
class Automatic:
    """What happens without the model's doing in one episode.

    Attributes:
        mask_at: Tokens of a view from which results are masked, however few; None if never.
        ask_at: Tokens of a view from which a summary is asked for; None if never.
        keep_last: Observations that masking leaves.
        evict_batch: Observations beyond those that are masked at a time, while there is room.
    """

    mask_at: int | None = None
    ask_at: int | None = None
    keep_last: int = 1
    evict_batch: int = 1

    def list_masked(
        self, shown: Sequence[Observation], *, num_new: int, num_held: int | None
    ) -> tuple[str, ...]:
        """Return the observations to mask; those of the turn itself nobody has seen yet.

        Args:
            shown: Observations in view, before those of this turn.
            num_new: Observations of this turn.
            num_held: Tokens of the view with them; None if they do not fit.
        """
        if self.mask_at is None:
            return ()
        is_many = len(shown) + num_new >= self.keep_last + self.evict_batch
        is_full = num_held is None or num_held >= self.mask_at
        num_kept = max(0, self.keep_last - num_new)
        old = shown[: max(0, len(shown) - num_kept)]
        return tuple(each.id for each in old) if is_many or is_full else ()

    def asks(self, num_held: int | None) -> bool:
        """Tell whether a summary is asked for with so many tokens held; None: they do not fit."""
        return self.ask_at is not None and (num_held is None or num_held >= self.ask_at)


def plan_automatic(
    strategy: Strategy, thresholds: Thresholds | None, *, view_limit: int, turn_tokens: int
) -> Automatic:
    """Return what a strategy does by itself; without thresholds that is nothing.

    Masking and asking begin at the drawn fill, but not so late that a further turn might not fit:
    in a small window that is well before 95 %.

    Args:
        strategy: Which.
        thresholds: As drawn for the group.
        view_limit: Most tokens of a view.
        turn_tokens: What a further turn may take at least (`Fitter.measure_turn`).
    """
    if thresholds is None:
        return Automatic()
    level = min(int(thresholds.fill * view_limit), view_limit - turn_tokens)
    return Automatic(
        mask_at=level if strategy in MASKING else None,
        ask_at=level if strategy in ASKING else None,
        keep_last=thresholds.keep_last or 1,
        evict_batch=thresholds.evict_batch,
    )


def draw_thresholds(
    strategy: Strategy,
    *,
    fill: tuple[float, float],
    keep_last: tuple[int, int],
    evict_batch: int,
    rng: random.Random,
) -> Thresholds | None:
    """Draw the thresholds of one group between least and most; None where a strategy has none.

    Args:
        strategy: Which.
        fill: As in `Thresholds`; of `learned_net` it is fixed.
        keep_last: As in `Thresholds`.
        evict_batch: As in `Thresholds`.
        rng: Draws, the same numbers for each strategy.
    """
    share, kept = round(rng.uniform(*fill), 3), rng.randint(*keep_last)
    if strategy == "learned_net":
        return Thresholds(fill=NET_FILL)
    if strategy in MASKING:
        return Thresholds(fill=share, keep_last=kept, evict_batch=evict_batch)
    return Thresholds(fill=share) if strategy in ASKING else None


def read_summary(text: str, calls: Sequence[ToolCall]) -> str:
    """Return the summary in what was sampled for a request: that of a `compact` call, or the text.

    Args:
        text: As it was sampled, without what ends the turn; a thought before it is left out.
        calls: Those that were read in it.
    """
    for each in calls:
        summary = each.arguments.get("summary")
        if each.name == "compact" and each.error is None and isinstance(summary, str):
            return summary
    return text.rpartition("</think>")[2].strip()
