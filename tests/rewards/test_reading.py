"""What was read, in the lines of the broken files, and whether it was in view already."""

import pytest

from envs.policies import call
from rewards.reading import count_offences, needed_lines, read_back
from tests.rewards.episodes import BAD_CALL, make_episode
from tests.rewards.played import act, edit, read

SUBMIT = call("submit")


def lines(path, first, last):
    return tuple((path, number) for number in range(first, last + 1))


def test_lines_that_results_show_are_read_and_others_are_not():
    episode = act(
        [call("list_files")],
        [call("search", pattern="def ")],
        [call("outline", path="m0.py"), read("m0.py", 1, 3)],
        [call("read_file", path="m1.py")],
        [read("m0.py", 90, 91)],
        [SUBMIT],
    )
    reads = read_back(episode).reads
    assert [each.tool for each in reads] == ["search", "read_lines", "read_file"]
    assert reads[0].lines == (("m0.py", 1), ("m0.py", 6), ("m1.py", 1))
    assert reads[1].lines == lines("m0.py", 1, 3)
    assert reads[2].lines == lines("m1.py", 1, 3)
    assert needed_lines(episode) == {*lines("m0.py", 1, 3), *lines("m1.py", 1, 3)}


@pytest.mark.parametrize(
    ("change", "now", "was"),
    [
        pytest.param(edit("m0.py", 1, 0, "import a\nimport b"), (8, 9), (6, 7), id="inserted"),
        pytest.param(edit("m0.py", 4, 5, ""), (4, 5), (6, 7), id="deleted"),
        pytest.param(edit("m0.py", 3, 3, "    return 1\n    # x\n"), (7, 8), (6, 7), id="longer"),
        pytest.param(edit("m0.py", 3, 3, "    return 1"), (3, 4), (3, 4), id="replaced"),
        pytest.param(edit("m0.py", 7, 7, "    x"), (1, 2), (1, 2), id="behind"),
        pytest.param(edit("m0.py", 3, 3, "    return ("), (6, 7), (6, 7), id="refused"),
        pytest.param(edit("m1.py", 1, 0, "import a"), (6, 7), (6, 7), id="another file"),
    ],
)
def test_lines_are_followed_back_through_edits(change, now, was):
    episode = act([change], [read("m0.py", *now)], [SUBMIT])
    assert read_back(episode).reads[-1].lines == lines("m0.py", *was)


def test_reading_again_is_told_by_what_is_in_view():
    again = read("far.py", 1, 9)
    episode = act(
        [again],
        [again],  # o1 and o2 show the lines
        [call("evict", observation_ids=["o1", "o2"])],
        [again],  # the stub points to them
        [call("compact", summary="nothing found")],
        [again],  # nothing does
        [call("compact", summary="constants in far.py:1-9")],
        [again],
        [SUBMIT],
    )
    found = [
        (len(each.in_view), len(each.by_pointer), len(each.lost))
        for each in read_back(episode).reads
    ]
    assert found == [(0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9), (0, 9, 0)]


def test_what_a_turn_evicts_is_not_in_view_beside_what_it_reads():
    again = read("far.py", 1, 20)
    episode = act([again], [call("evict", observation_ids=["o1"]), again], [SUBMIT])
    second = read_back(episode).reads[1]
    assert (len(second.in_view), len(second.by_pointer)) == (0, 20)


def test_a_note_points_to_lines_as_they_were_when_it_was_made():
    episode = act(
        [read("far.py", 1, 20)],
        [edit("m0.py", 1, 0, "import a"), call("note", file="far.py", facts="x", lines="5-9")],
        [call("compact", summary="go on")],
        [read("far.py", 1, 20)],
        [SUBMIT],
    )
    reading = read_back(episode)
    assert reading.noted == {*lines("far.py", 5, 9)}
    assert reading.reads[1].by_pointer == reading.noted
    assert reading.reads[1].lost == {*lines("far.py", 1, 4), *lines("far.py", 10, 20)}


def test_what_an_edit_changed_is_new_and_its_own_result_shows_it():
    episode = act(
        [read("m0.py", 1, 7)],
        [edit("m0.py", 3, 3, "    return abs(a - b)")],
        [read("m0.py", 1, 7)],
        [call("evict", observation_ids=["o1", "o3"])],
        [read("m0.py", 3, 4)],
        [SUBMIT],
    )
    reading = read_back(episode)
    assert reading.edited == {("m0.py", 3)}
    assert [len(each.in_view) for each in reading.reads] == [0, 7, 2]


def test_edits_of_a_turn_that_shows_no_result_count():
    fix = edit("m0.py", 1, 0, "import a\nimport b")
    episode = act([fix, call("compact", summary="imports")], [read("m0.py", 8, 9)], [fix, SUBMIT])
    reading = read_back(episode)
    assert reading.reads[0].lines == lines("m0.py", 6, 7)
    assert reading.edited == {("m0.py", 1)}


def test_a_pointer_may_be_as_long_as_a_model_likes():
    far = call("note", file="far.py", facts="x", lines="1-9999999")
    episode = act([far], [call("compact", summary="far.py:1-9999999")], [SUBMIT])
    assert len(read_back(episode).noted) <= 10_001


def test_offences_by_hand():
    episode = act(
        [call("read_file", path="far.py")],  # nothing of it is needed
        [call("read_file", path="m1.py")],  # all of it is
        [read("m1.py", 1, 3)],  # in view
        [read("m0.py", 1, 7)],
        [SUBMIT],
    )
    found = count_offences(episode)
    assert (found.whole_files, found.rereads, found.malformed, found.total) == (1, 1, 0, 2)
    assert count_offences(episode.model_copy(update={"gold_spans": ()})).whole_files == 0
    assert count_offences(make_episode(calls=(BAD_CALL,))).total == 1
