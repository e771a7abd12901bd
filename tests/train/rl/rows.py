"""What tests ask of training rows: the tokens with loss, the contexts of an episode's turns."""

from collections.abc import Iterable

from envs.context.event_log import render_view
from envs.records import Episode, Sampled, Segment


def num_sampled_tokens(rows: Iterable[Segment]) -> int:
    """Return how many tokens of the rows carry loss."""
    return sum(sum(row.loss_mask_T) for row in rows)


def check_contexts(episode: Episode) -> None:
    """Check that each turn's prompt in its segment is the view of the events before it."""
    starts = [at for at, event in enumerate(episode.events) if isinstance(event, Sampled)]
    for turn, at in zip(episode.turns, starts, strict=True):
        view_ids = render_view(episode.events[:at]).prompt_ids
        prompt_ids = episode.segment_ids[turn.segment][: turn.prompt_end]
        assert prompt_ids == view_ids, f"turn before event {at}: prompt differs from its view"
