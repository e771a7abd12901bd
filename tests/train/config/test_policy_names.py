"""Entries of `evaluate.policies`: what is accepted by its text, and the names that folders get."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.config.policy_names import OF_THE_RUN, SCRIPTS, PolicyEntry, name_entries, parse_entry

CHECKPOINT = "runs/x/grpo/checkpoints/checkpoint-40"
SERVED = "endpoint:http://127.0.0.1:8000/v1#org/coder:7b"


@pytest.mark.parametrize(
    ("text", "policy", "is_greedy", "kind"),
    [
        ("base", "base", False, "of_the_run"),
        ("base-greedy", "base", True, "of_the_run"),
        ("grpo:greedy", "grpo", True, "of_the_run"),
        ("gold", "gold", False, "script"),
        (CHECKPOINT, CHECKPOINT, False, "elsewhere"),
        (f"{CHECKPOINT}:greedy", CHECKPOINT, True, "elsewhere"),
        ("./sft-greedy", "./sft-greedy", False, "elsewhere"),
        ("/a b/c", "/a b/c", False, "elsewhere"),
        ("~/x", "~/x", False, "elsewhere"),
        (
            "Qwen/Qwen2.5-Coder-0.5B-Instruct",
            "Qwen/Qwen2.5-Coder-0.5B-Instruct",
            False,
            "elsewhere",
        ),
        ("smollm2-135m", "smollm2-135m", False, "elsewhere"),
        (SERVED, SERVED, False, "endpoint"),
        (f"{SERVED}:greedy", SERVED, True, "endpoint"),
    ],
)
def test_entries_are_told_apart_by_their_text(text, policy, is_greedy, kind) -> None:
    assert parse_entry(text) == PolicyEntry(policy, is_greedy, kind)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stf", "did you mean 'sft'"),
        ("grpo-gredy", "did you mean 'grpo-greedy'"),
        ("gold-greedy", "gold is a script and samples nothing"),
        ("careful:greedy", "careful is a script and samples nothing"),
        ("adapter", "write a folder with a slash"),
        ("", "known: base"),
        ("endpoint:127.0.0.1#m", "write endpoint:http://HOST:PORT/v1#MODEL"),
        ("endpoint:http://127.0.0.1/v1", "write endpoint:http://HOST:PORT/v1#MODEL"),
        ("endpoint:http://me:key@host/v1#m", "write endpoint:http://HOST:PORT/v1#MODEL"),
    ],
)
def test_what_cannot_be_played_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_entry(text)


def names(*places: str) -> list[str]:
    return list(name_entries([parse_entry(place) for place in places]).values())


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([CHECKPOINT], ["grpo-checkpoint-40"]),
        (["runs/x/sft/adapter", "runs/x/grpo/adapter"], ["sft-adapter", "grpo-adapter"]),
        (["runs/x/grpo/adapter", "runs/y/grpo/adapter"], ["x-grpo-adapter", "y-grpo-adapter"]),
        (["./adapter", "org/name"], ["adapter", "org-name"]),
        (["./sft", "sft"], ["sft-2", "sft"]),
        ([SERVED, "endpoint:http://b/v1#sft"], ["org-coder_7b", "v1-sft"]),
        (["./x", f"{CHECKPOINT}:greedy", CHECKPOINT], ["x", "grpo-checkpoint-40"]),
    ],
)
def test_a_folder_is_called_by_its_last_telling_parts(places, expected) -> None:
    assert sorted(names(*places)) == sorted(expected)


PLACES = st.lists(
    st.lists(
        st.sampled_from(["a", "b", "checkpoints", "sft", "sft-greedy", "..", "\u00fc"]), max_size=4
    ),
    min_size=1,
    max_size=6,
)


@given(PLACES)
def test_names_are_unique_and_fit_for_files(paths: list[list[str]]) -> None:
    entries = [parse_entry(text) for text in ("base", "sft", "gold")]
    entries += [parse_entry("./" + "/".join(parts)) for parts in paths]
    found = name_entries(entries)
    series = list(found.values())
    assert len({*series, *(f"{name}-greedy" for name in series)}) == 2 * len(found)
    assert set(found) == {entry.policy for entry in entries}
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in found.values())
    assert all(found[name] == name for name in ("base", "sft", "gold"))
    own = {name for policy, name in found.items() if policy.startswith(".")}
    assert not own & {*SCRIPTS, *OF_THE_RUN}
