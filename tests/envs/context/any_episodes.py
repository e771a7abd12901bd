"""Episodes of a policy that does anything at all, under any strategy, for laws of whole episodes.

Drawn are several calls in a turn, calls that cannot be read, samples that are cut, rewrites that
are refused, thresholds and what is left in view; `find_kinds` names what an episode holds of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from hypothesis import event
from hypothesis import strategies as st

from envs.context.strategies import draw_thresholds
from envs.environment import EpisodeMetadata, Limits
from envs.policies import call
from envs.records import (
    Compacted,
    Episode,
    Evicted,
    Ids,
    Noted,
    Observed,
    Sample,
    Sampled,
    Span,
    StopReason,
    Strategy,
    View,
)
from tests.envs.world import CHAT, FILES, SOLVED, new_environment

LONG = {**FILES, "long.py": "".join(f"value_{n} = {n}\n" for n in range(80))}
GOLD = (Span(path="m0.py", start=1, end=3), Span(path="m1.py", start=1, end=3))
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
broken = acts.map(lambda calls: CHAT.decode(CHAT.call_ids(calls)[:-4]))
# what a policy that knows what it does might do, which chance would seldom come upon
apt = st.sampled_from(
    [
        [call("read_file", path="long.py")],
        [call("evict_all")],
        [call("compact", summary="m0 is fine")],
        [call("note", file="m0.py", facts="x", lines="1-3")],
    ]
)
said = st.one_of(acts, acts, *[apt] * 6, texts, broken, st.just("submit"))

KINDS = (
    "calls together",
    "a call that cannot be read",
    "a cut sample",
    "a refused rewrite",
    "a rewrite of its own",
    "a note",
    "an automatic eviction",
    "a summary that was asked for",
)


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
    strategy: Strategy = draw(st.sampled_from([*get_args(Strategy), "learned", "learned"]))
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
    views: list[View] = []
    while environment.stop_reason is None:
        view = environment.view()
        views.append(view)
        words = draw(said)
        if words and isinstance(words, list) and words[0].name == "evict_all":
            live = [each.id for each in view.observations]
            words = [call("evict", observation_ids=live), *words[1:]]
        environment.step(sample_of(words, cut=draw(st.booleans())))
    outcome = None
    if environment.stop_reason is StopReason.SUBMITTED:
        outcome = SOLVED.model_copy(update={"fail_to_pass_rate": float(draw(st.booleans()))})
    metadata = EpisodeMetadata("g", 0, 0, "any", 0, 0.0, False, GOLD)
    episode = environment.record(metadata, outcome=outcome)
    for kind in (f"{strategy} {episode.stop_reason.value}", *find_kinds(episode)):
        event(kind)
    again = Episode.model_validate_json(episode.model_dump_json())
    return Played(again, tuple(views), environment._automatic.ask_at or 0)


def sample_of(words: list | str, *, cut: bool) -> Sample:
    """Return what a model would sample; `cut` without its end of turn, at most 48 tokens."""
    words = [call("submit")] if words == "submit" else words
    ids = CHAT.call_ids(words) if isinstance(words, list) else (*CHAT.encode(words), CHAT.eot_id)
    kept = (ids[:-1] if cut else ids)[:48]
    finish = "stop" if kept == ids else "length"
    return Sample(token_ids=kept, sampling_logps=(-0.5,) * len(kept), finish=finish)  # type: ignore[arg-type]


@st.composite
def groups(draw: st.DrawFn) -> list[Episode]:
    """Draw the episodes of one group, which no real group would be: each under its own strategy."""
    played = draw(st.lists(episodes(), min_size=2, max_size=3))
    return [each.episode.model_copy(update={"sample_index": n}) for n, each in enumerate(played)]


def find_kinds(episode: Episode) -> Iterator[str]:
    """Yield the kinds that an episode holds, each once."""
    results = [o for e in episode.events if isinstance(e, Observed) for o in e.observations]
    refused = {each.id for each in results if each.was_refused}
    pairs = [
        pair
        for turn in episode.turns
        for pair in zip(turn.calls, turn.observation_ids, strict=False)  # what submits shows none
    ]
    rewrites = [each for each in episode.events if isinstance(each, Evicted | Compacted)]
    samples = [each for each in episode.events if isinstance(each, Sampled)]
    holds = (
        any(len(turn.calls) > 1 for turn in episode.turns),
        any(call.error for turn in episode.turns for call in turn.calls),
        any(each.finish == "length" for each in samples),
        any(call.name in ("evict", "compact") and name in refused for call, name in pairs),
        any(not each.automatic for each in rewrites),
        any(isinstance(each, Noted) for each in episode.events),
        any(isinstance(each, Evicted) and each.automatic for each in rewrites),
        any(isinstance(each, Compacted) and each.automatic for each in rewrites),
    )
    return (kind for kind, is_there in zip(KINDS, holds, strict=True) if is_there)
