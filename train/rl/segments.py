"""Episodes to training rows: one per segment, with loss on sampled tokens only.

A segment is a maximal run of turns in which each prompt extends the previous prompt and sample, so
one row holds all its turns and every sampled token keeps the context it was sampled under. Nothing
is decoded or encoded on the way. Ids behind the last sampled token carry no loss and are cut.

Shapes: T tokens of a row. No torch here.
"""

from collections.abc import Sequence

from envs.records import Episode, Ids, Sampled, Score, Segment, Turn
from rewards.outcome import is_scorable


def make_rows(episode: Episode, *, advantage: float, staleness: int = 0) -> list[Segment]:
    """Return the rows of one episode, all with its one advantage, in the order of its segments.

    Segments in which nothing was sampled give no row, nor do episodes that the machine broke: they
    are in no denominator, so they may be in no sum, the KL term's included. The unsampled
    end-of-turn of a sample that was cut at its limit has mask 0: context for the next turn only.

    Args:
        episode: The finished record.
        advantage: The advantage of the whole episode, without unit; each row carries all of it.
        staleness: Steps between the policy that sampled it and the one that is trained on it.
    """
    if not is_scorable(episode):
        return []
    pairs = _turns_with_samples(episode)
    rows = []
    for index, ids in enumerate(episode.segment_ids):
        turns = [(turn, sampled) for turn, sampled in pairs if turn.segment == index]
        turns = [(turn, sampled) for turn, sampled in turns if sampled.token_ids]
        if turns:
            row = _row(f"{episode.group_id}/{episode.sample_index}", ids, turns, advantage)
            rows.append(row.model_copy(update={"staleness": staleness}) if staleness else row)
    return rows


def make_minibatches(
    groups: Sequence[tuple[Sequence[Episode], Sequence[Score]]],
    *,
    first_group: int,
    num_updates: int,
    step: int = 0,
) -> list[list[Segment]]:
    """Return the rows of each update on a rollout: whole groups, every n-th in the same one.

    Masked episodes give no rows: what is in no sum is in no denominator.

    Args:
        groups: Episodes and scores of the groups that one process trains on.
        first_group: The place of the first of them among those of all processes, which alone
            decides on the update. So processes have about equal shares of each.
        num_updates: Updates of the step.
        step: Steps trained before: what a policy of this version sampled is not stale.
    """
    minibatches: list[list[Segment]] = [[] for _ in range(num_updates)]
    for place, (episodes, scores) in enumerate(groups, start=first_group):
        for episode, score in zip(episodes, scores, strict=True):
            if not score.masked:
                staleness = max(0, step - episode.policy_version)
                rows = make_rows(episode, advantage=score.advantage, staleness=staleness)
                minibatches[place % num_updates] += rows
    return minibatches


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


def _turns_with_samples(episode: Episode) -> list[tuple[Turn, Sampled]]:
    samples = [event for event in episode.events if isinstance(event, Sampled)]
    return list(zip(episode.turns, samples, strict=True))


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
