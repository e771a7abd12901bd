"""Episodes to training rows: one per segment, with loss on sampled tokens only.

A segment is a maximal run of turns in which each prompt extends the previous prompt and sample, so
one row holds all its turns and every sampled token keeps the context it was sampled under. Nothing
is decoded or encoded on the way. Ids behind the last sampled token carry no loss and are cut.

Shapes: T tokens of a row. No torch here.
"""

from collections.abc import Collection, Sequence
from math import fsum

from envs.records import (
    Compacted,
    Episode,
    Evicted,
    Ids,
    Noted,
    Sampled,
    Score,
    Segment,
    Turn,
)
from rewards.outcome import is_scorable

LEAST_SHARED = 64
"""Tokens: masked attention of the rest costs as much as some 50 that are not computed again."""

MOST_SHARING = 4
"""Of a micro-batch's rows over what they share: copies of keys stay small beside activations."""


def make_rows(
    episode: Episode,
    *,
    advantage: float,
    staleness: int = 0,
    untrained: Collection[int] = (),
    context_action_weight: float = 1.0,
) -> list[Segment]:
    """Return the rows of one episode, all with its one advantage, in the order of its segments.

    Segments in which nothing was sampled give no row, nor do episodes that the machine broke: they
    are in no denominator, so they may be in no sum, the KL term's included. The unsampled
    end-of-turn of a sample that was cut at its limit has mask 0: context for the next turn only.

    Args:
        episode: The finished record.
        advantage: The advantage of the whole episode, without unit; each row carries all of it.
        staleness: Steps between the policy that sampled it and the one that is trained on it.
        untrained: Numbers of turns, from 0, whose tokens carry no loss.
        context_action_weight: Weight of the tokens of turns that `weigh_turns` finds.
    """
    if not is_scorable(episode):
        return []
    pairs = _turns_with_samples(episode)
    weights = weigh_turns(episode, context_action_weight)
    rows = []
    for index, ids in enumerate(episode.segment_ids):
        here = [n for n, (turn, sampled) in enumerate(pairs) if turn.segment == index]
        here = [n for n in here if pairs[n][1].token_ids and n not in untrained]
        if here:
            turns = [pairs[n] for n in here]
            row = _row(f"{episode.group_id}/{episode.sample_index}", ids, turns, advantage)
            own = _spread(turns, [weights[n] for n in here]) if weights else ()
            rows.append(row.model_copy(update={"staleness": staleness, "weights_T": own}))
    return rows


def weigh_turns(episode: Episode, weight: float) -> list[float]:
    """Return the weight in the loss of each turn's tokens; [] if it is 1 of all.

    Turns in which the model noted, evicted or compacted weigh `weight` against 1, rescaled so that
    the mean over the episode's sampled tokens is 1: the episode weighs as before. Calls are not
    told apart within a turn: the record has no offsets of calls.
    """
    raw = [1.0 for _ in episode.turns]
    turn = -1
    for event in episode.events:
        turn += isinstance(event, Sampled)
        is_own = not getattr(event, "automatic", False) or isinstance(event, Compacted)
        if isinstance(event, Noted | Evicted | Compacted) and is_own:
            raw[turn] = weight
    if set(raw) == {1.0} or not raw:
        return []
    sizes = [each.sample_end - each.prompt_end for each in episode.turns]
    mean = fsum(w * size for w, size in zip(raw, sizes, strict=True)) / max(1, sum(sizes))
    return [each / mean for each in raw] if mean else []


def make_minibatches(
    groups: Sequence[tuple[Sequence[Episode], Sequence[Score]]],
    *,
    first_group: int,
    num_updates: int,
    step: int = 0,
    context_action_weight: float = 1.0,
) -> list[list[Segment]]:
    """Return the rows of each update on a rollout: whole groups, every n-th in the same one.

    Masked episodes give no rows: what is in no sum is in no denominator.

    Args:
        groups: Episodes and scores of the groups that one process trains on.
        first_group: The place of the first of them among those of all processes, which alone
            decides on the update. So processes have about equal shares of each.
        num_updates: Updates of the step.
        step: Steps trained before: what a policy of this version sampled is not stale.
        context_action_weight: As in `make_rows`.
    """
    minibatches: list[list[Segment]] = [[] for _ in range(num_updates)]
    for place, (episodes, scores) in enumerate(groups, start=first_group):
        for episode, score in zip(episodes, scores, strict=True):
            if not score.masked:
                staleness = max(0, step - episode.policy_version)
                minibatches[place % num_updates] += make_rows(
                    episode,
                    advantage=score.advantage,
                    staleness=staleness,
                    context_action_weight=context_action_weight,
                )
    return minibatches


def make_filler(rows: Sequence[Segment], *, end_id: int) -> Segment:
    """Return a short row of real tokens without loss.

    Args:
        rows: Where it is taken from.
        end_id: Of the end of texts; two of them if there are no rows.
    """
    ids = min((row.token_ids_T for row in rows), key=len, default=(end_id,) * 2)
    return Segment(
        episode_id="",
        token_ids_T=ids,
        loss_mask_T=(0,) * len(ids),
        sampling_logps_T=(0.0,) * len(ids),
        advantage=0.0,
    )


def size_microbatches(lengths: Sequence[int], *, max_tokens: int) -> list[int]:
    """Return how many rows each micro-batch takes, of rows sorted by length, longest first.

    A micro-batch holds at most `max_tokens` tokens, padding included, or one row. Neighbours in
    length share one, so little is padded; the longest come first, so a budget that does not fit in
    memory fails at once.
    """
    sizes, start = [], 0
    while start < len(lengths):
        sizes.append(min(len(lengths) - start, max(1, max_tokens // lengths[start])))
        start += sizes[-1]
    return sizes


def count_as_shared(num_alike: int) -> int:
    """Return how many tokens a row shares with another that begins with so many equal ones."""
    return num_alike if num_alike >= LEAST_SHARED else 0


def size_packed(processes: Sequence[Sequence[tuple[int, int]]], *, max_tokens: int) -> list[int]:
    """Return how many rows each micro-batch takes, of rows that share what they begin with.

    A micro-batch holds at most `max_tokens` tokens, shared ones once, or one row. All processes
    have equally many rows in each.

    Args:
        processes: The rows of each in order: length, and how many tokens it begins with like the
            one before it.
        max_tokens: For each process. Its rows unshared have `MOST_SHARING` times as many at most.
    """
    sizes: list[int] = []
    packed = whole = [0] * len(processes)
    for rows in zip(*processes, strict=True):  # in the same place
        alone = [length for length, _ in rows]
        fresh = [length - count_as_shared(alike) for length, alike in rows]
        packed = [sum(pair) for pair in zip(packed, fresh, strict=True)]
        whole = [sum(pair) for pair in zip(whole, alone, strict=True)]
        if sizes and max(packed) <= max_tokens and max(whole) <= MOST_SHARING * max_tokens:
            sizes[-1] += 1
        else:
            sizes.append(1)
            packed, whole = alone, alone
    return sizes


def _turns_with_samples(episode: Episode) -> list[tuple[Turn, Sampled]]:
    samples = [event for event in episode.events if isinstance(event, Sampled)]
    return list(zip(episode.turns, samples, strict=True))


def _spread(turns: Sequence[tuple[Turn, Sampled]], weights: Sequence[float]) -> tuple[float, ...]:
    """Return a weight per token of a row; it means nothing where there is no loss."""
    spread = [1.0] * turns[-1][0].sample_end
    for (turn, sampled), weight in zip(turns, weights, strict=True):
        spread[turn.prompt_end : turn.sample_end] = [weight] * len(sampled.token_ids)
    return tuple(spread)


def _row(
    episode_id: str, ids: Ids, turns: Sequence[tuple[Turn, Sampled]], advantage: float
) -> Segment:
    end = turns[-1][0].sample_end
    mask, logps = [0] * end, [0.0] * end
    previous_end = 0
    for turn, sampled in turns:
        span = slice(turn.prompt_end, turn.sample_end)
        assert turn.prompt_end >= max(1, previous_end), "turns overlap"
        assert ids[span] == sampled.token_ids, "segment differs from what was sampled"
        assert len(sampled.sampling_logps) == len(sampled.token_ids), "log-probs differ in number"
        mask[span] = [1] * len(sampled.token_ids)
        logps[span] = sampled.sampling_logps
        previous_end = turn.sample_end
    return Segment(
        episode_id=episode_id,
        token_ids_T=ids[:end],
        loss_mask_T=tuple(mask),
        sampling_logps_T=tuple(logps),
        advantage=advantage,
    )
