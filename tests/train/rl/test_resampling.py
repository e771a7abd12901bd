"""Groups without signal are replaced: what is kept, what is dropped, and how far it goes."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rewards.advantages import score_group
from tests.rewards.episodes import make_episode
from train.rl.resampling import (
    Group,
    describe_replaced,
    has_signal,
    replace_silent,
    split_played,
)

SPEAKS = st.lists(st.booleans(), min_size=40, max_size=40)


@given(SPEAKS, st.integers(1, 8), st.integers(0, 12))
def test_silent_groups_are_replaced_up_to_the_limit(
    speaks: list[bool], num_groups: int, most: int
) -> None:
    played: list[str] = []

    def play(task_ids: Sequence[str], first_group: int) -> list[tuple[Group, bool]]:
        assert first_group == len(played)
        played.extend(task_ids)
        return [([make_episode(task_id=each)], speaks[int(each)]) for each in task_ids]

    rest = list(map(str, range(num_groups, num_groups + 9)))

    def draw(num: int) -> list[str]:
        found, rest[:] = rest[:num], rest[num:]
        return found

    found = replace_silent(list(map(str, range(num_groups))), play=play, draw=draw, most=most)
    kept = [group[0].task_id for group in found.kept]
    dropped = [group[0].task_id for group in found.dropped]
    assert sorted([*kept, *dropped], key=int) == played, "nothing is lost or doubled"
    assert len(kept) == num_groups
    assert len(dropped) <= most
    assert not any(speaks[int(each)] for each in dropped)
    assert all(kept[int(each)] == each for each in played[:num_groups] if speaks[int(each)])
    if len(dropped) < min(most, 9):
        assert all(speaks[int(each)] for each in kept)


@given(SPEAKS, st.integers(1, 6), st.integers(0, 9), st.integers(1, 9), st.integers(1, 3))
def test_a_saved_step_is_told_from_one_of_other_sizes(
    speaks: list[bool], num_groups: int, most: int, num_asked: int, size: int
) -> None:
    def play(task_ids: Sequence[str], first_group: int) -> list[tuple[Group, bool]]:
        def make(place: int) -> Group:
            names = {"task_id": "t", "group_id": f"grpo/3/{place}"}  # one task may come twice
            return [make_episode().model_copy(update=names) for _ in range(2)]

        places = range(first_group, first_group + len(task_ids))
        return [(make(place), speaks[place]) for place in places]

    found = replace_silent([""] * num_groups, play=play, draw=lambda num: [""] * num, most=most)
    saved = [episode for group in (*found.kept, *found.dropped) for episode in group]
    read = split_played(saved, num_groups=num_asked, size=size)
    assert read == (found if (num_asked, size) == (num_groups, 2) else None)


def test_what_counts_as_signal() -> None:
    def of(*episodes) -> bool:
        return has_signal(score_group(episodes))

    solved, failed = make_episode(), make_episode(solved=False)
    assert of(solved, failed)
    assert of(solved, make_episode(turns=((200, 20),))), "cost is one"
    assert not of(solved, solved)
    assert not of(failed, failed)
    assert not of(solved, make_episode(unscorable="died")), "broken by the machine"


def test_what_it_cost_is_told() -> None:
    def play(task_ids: Sequence[str], first_group: int) -> list[tuple[Group, bool]]:
        return [([make_episode(turns=((90, 10),))], first_group > 0) for _ in task_ids]

    found = replace_silent(["a", "b"], play=play, draw=lambda num: ["c"] * num, most=1)
    assert describe_replaced(found) == {
        "resample/num_groups_played": 3,
        "resample/num_groups_replaced": 1,
        "resample/num_groups_kept": 2,
        "resample/billed_tokens_dropped": 100,
        "resample/share_tokens_dropped": 1 / 3,
    }
