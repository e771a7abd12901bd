"""Laws of every strategy, on episodes of a policy that does anything at all.

2,000 cases: python -m pytest --hypothesis-profile laws tests/envs/context/test_laws.py
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from hypothesis import event, given, settings
from hypothesis import strategies as st

from envs.context.budget import measure_budget
from envs.context.event_log import iterate_views
from envs.context.strategies import ASKING, draw_thresholds
from envs.environment import EpisodeMetadata, Limits
from envs.policies import call
from envs.prompts import SYSTEM_SHORT
from envs.records import (
    Compacted,
    Episode,
    Event,
    Evicted,
    Ids,
    Observed,
    Opened,
    Sample,
    Sampled,
    StopReason,
    Strategy,
    View,
)
from envs.tools import list_tools
from rewards.cost import PRESETS, billed_tokens, cost, num_compactions, num_evictions
from tests.envs.world import CHAT, FILES, TASK, new_environment
from tests.laws import CASES
from train.rl.segments import make_rows

LONG = {**FILES, "long.py": "".join(f"value_{n} = {n}\n" for n in range(80))}
paths = st.sampled_from([*LONG, "no.py"])
lines = st.integers(0, 12)
texts = st.sampled_from(
    ["", "x = 1", "def", "    return abs(a - b)", "m0 is fine\n<|im_end|>", "é(["]
)
calls = st.one_of(
    st.builds(call, st.just("read_file"), path=paths),
    st.builds(call, st.just("read_lines"), path=paths, start=lines, end=lines),
    st.builds(call, st.just("search"), pattern=texts),
    st.builds(call, st.just("edit_lines"), path=paths, start=lines, end=lines, text=texts),
    st.builds(call, st.just("note"), file=paths, facts=texts, lines=st.just("1-3")),
    st.builds(
        call, st.just("evict"), observation_ids=st.lists(lines.map("o{}".format), max_size=3)
    ),
    st.builds(call, st.just("compact"), summary=texts),
    st.sampled_from([call("list_files"), call("run_tests"), call("nothing"), call("evict_all")]),
)
acts = st.lists(calls, min_size=1, max_size=3)
said = st.one_of(acts, acts, acts, acts, texts, st.just("submit"))


LIMITED = (StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT)


@dataclass(frozen=True)
class Played:
    """An episode, the views that its policy was shown, and where a summary is asked for."""

    episode: Episode
    views: tuple[View, ...]
    ask_at: int

    @property
    def samples(self) -> list[Ids]:
        return [each.token_ids for each in self.episode.events if isinstance(each, Sampled)]


@st.composite
def episodes(draw: st.DrawFn) -> Played:
    """Play an episode under any strategy, whatever is said; all live results may be evicted."""
    strategy: Strategy = draw(st.sampled_from(get_args(Strategy)))
    limits = Limits(draw(st.integers(190, 700)), 14, 48, draw(st.sampled_from([60, 160])), 2)
    thresholds = draw_thresholds(
        strategy,
        fill=(0.3, 1.0),
        keep_last=(1, 4),
        evict_batch=draw(st.integers(1, 4)),
        rng=draw(st.randoms(use_true_random=False)),
    )
    environment = new_environment(
        limits=limits, strategy=strategy, thresholds=thresholds, files=LONG
    )
    views = []
    while environment.stop_reason is None:
        view = environment.view()
        views.append(view)
        words = draw(said)
        if words and isinstance(words, list) and words[0].name == "evict_all":
            live = [each.id for each in view.observations]
            words = [call("evict", observation_ids=live), *words[1:]]
        environment.step(sample_of(words, cut=draw(st.booleans())))
    episode = environment.record(EpisodeMetadata("g", 0, 0, "any", 0, 0.0, False), outcome=None)
    event(f"{strategy} {episode.stop_reason.value}")
    event(f"{strategy} rewrites {min(3, views[-1].num_rewrites if views else 0)}")
    again = Episode.model_validate_json(episode.model_dump_json())
    return Played(again, tuple(views), environment._automatic.ask_at or 0)


def sample_of(words: list | str, *, cut: bool) -> Sample:
    """Return what a model would sample; `cut` without its end of turn, at most 48 tokens."""
    words = [call("submit")] if words == "submit" else words
    ids = CHAT.call_ids(words) if isinstance(words, list) else (*CHAT.encode(words), CHAT.eot_id)
    ids = (ids[:-1] if cut else ids)[:48]
    return Sample(token_ids=ids, sampling_logps=(-0.5,) * len(ids), finish="stop")


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
