"""What an edit needs: its lines, and the facts that follow its function in `gold_spans`."""

from envs.readers.needs import find_needs
from envs.records import Edit, Span
from tests.envs.readers.long_task import EDITS, FILES, HIDDEN_LONG
from tests.envs.world import FILES as SHORT_FILES
from tests.envs.world import HIDDEN


def test_a_fact_belongs_to_the_edit_before_it() -> None:
    for need in find_needs(HIDDEN_LONG, FILES):
        other = f"m{(int(need.edit.path[1]) + 1) % 4}.py"
        assert need.to_see == {*((need.edit.path, line) for line in (3, 4, 5)), (other, 1)}
        assert need.around == (Span(path=need.edit.path, start=3, end=5),)
        assert need.facts == (Span(path=other, start=1, end=1),)


def test_without_spans_only_the_lines_of_the_edits_are_needed() -> None:
    assert [need.to_see for need in find_needs(HIDDEN, SHORT_FILES)] == [
        {("m0.py", 3)},
        {("m1.py", 3)},
    ]


def test_edits_come_bottom_up_and_an_insertion_needs_the_lines_beside_it() -> None:
    edits = (EDITS[0], Edit(path="m0.py", start=6, end=5, text="x = 1"))
    hidden = HIDDEN_LONG.model_copy(update={"gold_edits": edits, "gold_spans": ()})
    needs = find_needs(hidden, FILES)
    assert [need.edit for need in needs] == [edits[1], edits[0]]
    assert needs[0].to_see == {("m0.py", 5)}, "behind the last line stands nothing"
