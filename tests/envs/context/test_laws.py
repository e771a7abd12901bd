"""Laws of every strategy, on episodes of a policy that does anything at all.

2,000 cases: python -m pytest --hypothesis-profile laws tests/envs/context/test_laws.py
"""

from collections.abc import Sequence

import pytest
from hypothesis import Phase, find, given, settings

from envs.context.budget import measure_budget
from envs.context.event_log import iterate_views
from envs.context.strategies import ASKING
from envs.prompts import SYSTEM_SHORT
from envs.records import (
    Compacted,
    Episode,
    Event,
    Evicted,
    Ids,
    Observed,
    Opened,
    Sampled,
    StopReason,
)
from envs.tools import list_tools
from rewards.cost import PRESETS, billed_tokens, cost, num_compactions, num_evictions
from tests.envs.context.any_episodes import KINDS, Played, episodes, find_kinds
from tests.envs.world import CHAT, TASK
from tests.laws import CASES
from train.rl.segments import make_rows

LIMITED = (StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT)


@pytest.mark.parametrize("kind", KINDS)
def test_the_laws_are_tried_on_episodes_of_every_kind(kind: str) -> None:
    first = settings(phases=[Phase.generate], database=None, max_examples=400)
    find(episodes(), lambda played: kind in find_kinds(played.episode), settings=first)


def plain_view(events: Sequence[Event]) -> Ids:
    """Put a view together in the plainest way, apart from `EventLog`."""
    rewrites = [at for at, each in enumerate(events) if isinstance(each, Opened | Compacted)]
    prefixes = [each for each in events if isinstance(each, Opened | Compacted | Evicted)]
    stubs = {
        k: ids for each in events if isinstance(each, Evicted) for k, ids in each.stub_ids.items()
    }
    ids = list(prefixes[-1].prefix_ids)
    for each in events[rewrites[-1] :]:
        if isinstance(each, Sampled):
            ids += each.token_ids + each.closing_ids
        if isinstance(each, Observed):
            between = [each.head_ids, *each.separator_ids, each.tail_ids]
            for seen, piece, before in zip(
                each.observations, each.piece_ids, between, strict=False
            ):
                ids += before + stubs.get(seen.id, piece)
            ids += each.tail_ids
    return tuple(ids)


def plain_prompts(episode: Episode) -> list[Ids]:
    starts = [at for at, each in enumerate(episode.events) if isinstance(each, Sampled)]
    return [plain_view(episode.events[:at]) for at in starts]


def overlap(left: Ids, right: Ids) -> int:
    pairs = list(zip(left, right, strict=False))
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))


@given(episodes())
@settings(max_examples=CASES)
def test_every_view_fits_and_is_rebuilt_from_the_record(played: Played) -> None:
    episode, prompts = played.episode, plain_prompts(played.episode)
    assert [view.prompt_ids for view in played.views] == prompts
    assert list(iterate_views(episode.events)) == list(played.views)
    limit = episode.window_tokens - episode.output_reserve
    assert all(len(prompt) <= limit for prompt in prompts)
    assert len(prompts) == len(episode.turns)


@given(episodes())
@settings(max_examples=CASES)
def test_cost_is_what_the_log_says(played: Played) -> None:
    episode, prompts, samples = played.episode, plain_prompts(played.episode), played.samples
    held = [prompt + sample for prompt, sample in zip(prompts, samples, strict=True)]
    cached = [overlap(*pair) for pair in zip([(), *held], prompts, strict=False)]
    assert [turn.num_cached for turn in episode.turns] == cached, "what the turn before left"
    assert billed_tokens(episode) == sum(map(len, held))
    for weights in PRESETS.values():
        expected = sum(
            weights.new * (len(prompt) - old) + weights.cached * old + weights.sampled * len(sample)
            for prompt, old, sample in zip(prompts, cached, samples, strict=True)
        )
        assert abs(cost(episode, weights=weights) - expected) < 1e-6


@given(episodes())
@settings(max_examples=CASES)
def test_segments_are_prompts_and_samples_id_for_id(played: Played) -> None:
    episode, prompts, samples = played.episode, plain_prompts(played.episode), played.samples
    runs: list[tuple[Ids, list[int]]] = []  # ids of a maximal run, and where loss belongs
    whole: Ids = ()
    logged = [each for each in episode.events if isinstance(each, Sampled)]
    for prompt, sampled in zip(prompts, logged, strict=True):
        extends = bool(runs) and prompt[: len(whole)] == whole
        mask = [*(runs[-1][1] if extends else []), *[0] * len(prompt)][: len(prompt)]
        mask += [0] * (len(prompt) - len(mask))
        ids = prompt + sampled.token_ids
        runs[len(runs) - extends :] = [(ids, mask + [1] * len(sampled.token_ids))]
        whole = ids + sampled.closing_ids
    rows = make_rows(episode, advantage=1.0)
    ends = [(ids[: last_one(mask)], mask[: last_one(mask)]) for ids, mask in runs if any(mask)]
    assert [(row.token_ids_T, list(row.loss_mask_T)) for row in rows] == ends
    trained = [
        token
        for row in rows
        for token, mask in zip(row.token_ids_T, row.loss_mask_T, strict=True)
        if mask
    ]
    assert trained == [token for sample in samples for token in sample]


def last_one(mask: list[int]) -> int:
    return len(mask) - mask[::-1].index(1)


@given(episodes())
@settings(max_examples=CASES)
def test_system_and_task_are_in_every_view_and_a_budget_adds_up(played: Played) -> None:
    episode = played.episode
    kept = CHAT.prefix(
        system=SYSTEM_SHORT, user=f"{TASK.statement}\nwindow {episode.window_tokens}"
    )
    text = CHAT.decode(kept).partition(f"window {episode.window_tokens}")[0]
    for number, view in enumerate(played.views, start=1):
        assert CHAT.decode(view.prompt_ids).startswith(text)
        budget = measure_budget(episode, turn=number)
        assert budget.held == len(view.prompt_ids) and budget.cached == view.num_cached
        assert budget.held + budget.output_reserve + budget.free == episode.window_tokens
        assert budget.fits and not budget.unsplit
        assert all(
            size >= 0 for size in (budget.template, budget.system, budget.task, budget.notes)
        )
        assert {each.id for each in view.observations} <= budget.observations.keys()


@given(episodes())
@settings(max_examples=CASES)
def test_each_strategy_does_what_it_says_and_no_more(played: Played) -> None:
    episode, strategy = played.episode, played.episode.strategy
    own = num_compactions(episode) + num_evictions(episode)
    assert own <= (2 if "compact" in list_tools(strategy) else 0), "a limit of two, of its own"
    automatic = [e for e in episode.events if isinstance(e, Evicted | Compacted) and e.automatic]
    kinds = {type(each) for each in automatic}
    may = {"mask": {Evicted}, "summarize": {Compacted}, "learned_net": {Compacted}}
    assert kinds <= may.get(strategy, {Evicted, Compacted} if strategy == "hybrid" else set())
    asked = [turn for turn in zip(played.views, episode.turns, strict=True) if turn[0].asks_summary]
    assert sum(isinstance(each, Compacted) for each in automatic) == len(asked)
    requests = [e for e in episode.events if isinstance(e, Observed) and e.asks_summary]
    assert len(requests) in (len(asked), len(asked) + (episode.stop_reason in LIMITED))
    assert not any(turn.calls for _, turn in asked), "what a summary calls is not carried out"
    for turn, after in zip(episode.turns, played.views[1:], strict=False):
        assert set(turn.observation_ids) <= {each.id for each in after.observations}, "seen once"
    if episode.stop_reason is StopReason.CONTEXT_OVERFLOW and strategy in ASKING:
        begun = [len(view.prompt_ids) for view in played.views if not view.observations]
        assert not begun or played.views[-1].asks_summary or begun[-1] >= played.ask_at, (
            "only a prefix overflows, with its summary"
        )
