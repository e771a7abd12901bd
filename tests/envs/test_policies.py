"""Where the scripted demonstrators look for a bug, and that they look before they edit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.environment import Environment, EpisodeMetadata, Limits
from envs.habits.options import ScriptOptions
from envs.policies import ScriptedPolicy, make_script
from envs.records import Edit, Episode, Span
from envs.sites import find_sites
from envs.unseen import find_unseen_edits
from rewards.cost import num_compactions, num_evictions
from tests.envs.world import CHAT, FILES, HIDDEN, TASK, new_environment

TEXT = "def first(a):\n    b = a\n\n\nclass Second:\n    def second(self, a):\n        return a\n"


@pytest.mark.parametrize(
    ("start", "end", "name", "lines"),
    [
        (2, 2, "first", (1, 2)),
        (3, 2, "first", (1, 3)),
        (7, 7, "second", (6, 7)),
        (8, 7, "second", (6, 7)),
        (5, 5, "Second", (5, 7)),
        (4, 4, "", (1, 7)),
        (1, 0, "", (1, 5)),
    ],
    ids=["in it", "behind it", "method", "behind the file", "class", "between", "at the top"],
)
def test_the_function_around_an_edit_is_found(
    start: int, end: int, name: str, lines: tuple[int, int]
) -> None:
    edit = Edit(path="m.py", start=start, end=end, text="    return b\n")
    (site,) = find_sites([edit], {"m.py": TEXT})
    assert site.function == name
    assert (site.start, site.end) == lines  # an insertion stands beside the line that follows
    assert site.search in TEXT


def test_facts_are_the_spans_without_an_edit_behind_that_of_the_edit() -> None:
    first = Edit(path="m.py", start=2, end=2, text="    return b\n")
    second = Edit(path="m.py", start=7, end=7, text="    return b\n")
    own, fact, other = Span(path="m.py", start=1, end=2), Span(path="a.py", start=1, end=3), "b.py"
    late, last = Span(path="m.py", start=6, end=7), Span(path=other, start=1, end=1)
    files = {"m.py": TEXT, "a.py": "x = 1\n" * 3, other: "y = 2\n"}
    sites = find_sites([first, second], files, needed=[own, fact, late, last])
    assert {site.edit: site.facts for site in sites} == {first: (fact,), second: (last,)}
    both = Span(path="m.py", start=1, end=7)
    assert [site.facts for site in find_sites([first, second], files, needed=[both, fact])] == [
        (fact,),
        (fact,),
    ], "it is of all edits in the span before"


def long_world() -> tuple[dict[str, str], tuple[Edit, ...]]:
    """Return two files that no small observation holds, and edits near their ends."""
    body = "".join(f"    a = a + {n}\n" for n in range(30))
    one = FILES["m0.py"] + "".join(f"\n\ndef f{n}(a):\n    return a\n" for n in range(20))
    two = f"def long(a):\n{body}    return a\n\n\nclass Last:\n    x = 1\n    y = 2\n"
    edits = (
        Edit(path="m0.py", start=3, end=3, text="    return abs(a - b)"),
        Edit(path="m0.py", start=87, end=87, text="    return a + 1"),
        Edit(path="m1.py", start=25, end=26, text="    a = a - 1"),
        Edit(path="m1.py", start=33, end=32, text="    # done"),
        Edit(path="m1.py", start=37, end=36, text="    z = 3"),
    )
    return {"m0.py": one, "m1.py": two}, edits


LONG, EDITS = long_world()


def play(
    limits: Limits,
    options: ScriptOptions,
    *,
    files: dict[str, str] = LONG,
    edits: tuple[Edit, ...] = EDITS,
) -> tuple[Episode, Environment]:
    hidden = HIDDEN.model_copy(update={"gold_edits": edits})
    environment = new_environment(limits=limits, files=files)
    script = make_script(
        "careful", task=TASK, hidden=hidden, files=files, chat=CHAT, options=options
    )
    policy = ScriptedPolicy(script, chat=CHAT, max_new_tokens=limits.max_new_tokens)
    while environment.stop_reason is None:
        environment.step(policy.next_sample(environment.view()))
    metadata = EpisodeMetadata("g", 0, 0, "careful", 0, 0.0, False)
    return environment.record(metadata, outcome=None), environment


def repaired(environment: Environment, edits: tuple[Edit, ...], files: dict[str, str]) -> bool:
    """Tell whether a workspace holds what all edits make of it."""
    gold = {path: text.splitlines() for path, text in files.items()}
    for edit in sorted(edits, key=lambda e: -e.start):
        gold[edit.path][edit.start - 1 : edit.end] = edit.text.splitlines()
    return {p: text.splitlines() for p, text in environment.workspace.files.items()} == gold


any_options = st.builds(
    ScriptOptions,
    find=st.sampled_from(["search", "outline", "file"]),
    list_first=st.booleans(),
    test_before=st.booleans(),
    test_after=st.booleans(),
    submit_with_edit=st.booleans(),
    note=st.booleans(),
    reread=st.booleans(),
    rewrite=st.sampled_from(["none", "evict", "compact"]),
    eager=st.booleans(),
)


@given(any_options, st.integers(300, 900), st.integers(40, 300), st.booleans())
@settings(max_examples=120, deadline=None)
def test_no_demonstrator_edits_what_it_has_not_seen(
    options: ScriptOptions, window: int, cap: int, is_long: bool
) -> None:
    limits = Limits(window_tokens=window, max_turns=60, max_new_tokens=48, observation_tokens=cap)
    files, edits = (LONG, EDITS) if is_long else (FILES, HIDDEN.gold_edits)
    episode, _ = play(limits, options, files=files, edits=edits)
    assert find_unseen_edits(episode, files) == ()


@given(any_options, st.integers(60, 300))
@settings(max_examples=25, deadline=None)
def test_where_the_window_is_wide_it_reads_on_behind_a_cut_and_repairs(
    options: ScriptOptions, cap: int
) -> None:
    limits = Limits(window_tokens=20_000, max_turns=200, max_new_tokens=100, observation_tokens=cap)
    episode, environment = play(limits, options)
    assert find_unseen_edits(episode, LONG) == ()
    assert repaired(environment, EDITS, LONG)


def test_whoever_cannot_evict_enough_compacts() -> None:
    """A result that the window would cut shows too little; one evict frees too little for it."""
    options = ScriptOptions(rewrite="evict", submit_with_edit=True)
    found = set()
    for window in range(280, 480, 8):
        limits = Limits(
            window_tokens=window, max_turns=12, max_new_tokens=48, observation_tokens=160
        )
        edits = HIDDEN.gold_edits
        episode, environment = play(limits, options, files=FILES, edits=edits)
        assert repaired(environment, edits, FILES) or not num_evictions(episode)
        if repaired(environment, edits, FILES):
            found.add((num_evictions(episode), num_compactions(episode)))
    assert {(0, 1), (1, 0), (0, 0)} <= found


@pytest.mark.parametrize("rewrite", ["evict", "compact", "none"])
def test_a_file_that_was_too_long_is_read_whole_once_and_searched_then(rewrite: str) -> None:
    options = ScriptOptions(find="file", rewrite=rewrite)  # type: ignore[arg-type]
    limits = Limits(window_tokens=1600, max_turns=60, max_new_tokens=100, observation_tokens=200)
    edits = tuple(edit for edit in EDITS if edit.path == "m0.py")  # both far behind the cut
    edits = (edits[1], edits[1].model_copy(update={"start": 83, "end": 83}))
    episode, environment = play(limits, options, edits=edits)
    assert repaired(environment, edits, LONG)
    names = [call.name for turn in episode.turns for call in turn.calls]
    assert names.count("read_file") == 1 and names.count("search") == 2
    cut_and_dropped = [c.arguments for t in episode.turns for c in t.calls if c.name == "evict"]
    assert cut_and_dropped == ([] if rewrite == "none" else [{"observation_ids": ["o1"]}])
