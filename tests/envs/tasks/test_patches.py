from hypothesis import given
from hypothesis import strategies as st

from envs.tasks.patches import apply_edits, gold_edits, gold_patch

LINES = st.lists(st.sampled_from(["a", "b", "  c", ""]), min_size=1, max_size=8)


def text_of(lines):
    return "\n".join(lines) + "\n"


@given(LINES, LINES, LINES)
def test_edits_lead_from_broken_to_gold(one, two, same):
    broken = {"x.py": text_of(one), "y.py": text_of(same)}
    gold = {"x.py": text_of(two), "y.py": text_of(same)}
    edits = gold_edits(broken, gold)
    assert apply_edits(broken, edits) == gold
    assert {edit.path for edit in edits} == ({"x.py"} if one != two else set())


def test_only_the_changed_lines_are_replaced():
    (edit,) = gold_edits({"x.py": "a\nb\nc\n"}, {"x.py": "a\nB\nc\n"})
    assert (edit.start, edit.end, edit.text) == (2, 2, "B")


def test_the_patch_is_a_unified_diff_of_changed_files():
    patch = gold_patch({"x.py": "a\nb\n", "y.py": "c\n"}, {"x.py": "a\nB\n", "y.py": "c\n"})
    assert patch == "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n a\n-b\n+B\n"
