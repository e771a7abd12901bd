import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.mutation.patches import apply_edits, apply_patch, make_edits, make_patch
from envs.tools import Toolbox, no_sandbox
from envs.workspace import Workspace

LINES = st.lists(st.sampled_from(["a", "b", "  c", ""]), min_size=1, max_size=8)


def text_of(lines):
    return "\n".join(lines) + "\n"


@given(LINES, LINES, LINES)
def test_edits_lead_from_broken_to_gold(one, two, same):
    broken = {"x.py": text_of(one), "y.py": text_of(same)}
    gold = {"x.py": text_of(two), "y.py": text_of(same)}
    edits = make_edits(broken, gold)
    assert apply_edits(broken, edits) == gold
    assert {edit.path for edit in edits} == ({"x.py"} if one != two else set())


def test_only_the_changed_lines_are_replaced():
    (edit,) = make_edits({"x.py": "a\nb\nc\n"}, {"x.py": "a\nB\nc\n"})
    assert (edit.start, edit.end, edit.text) == (2, 2, "B")


def test_the_patch_is_a_unified_diff_of_changed_files():
    patch = make_patch({"x.py": "a\nb\n", "y.py": "c\n"}, {"x.py": "a\nB\n", "y.py": "c\n"})
    assert patch == "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n a\n-b\n+B\n"


@given(LINES, LINES, LINES, LINES)
def test_a_patch_leads_from_broken_to_gold(one, two, three, four):
    broken = {"x.py": text_of(one), "y.py": text_of(three)}
    gold = {"x.py": text_of(two), "y.py": text_of(four)}
    changed = {path for path in broken if broken[path] != gold[path]}
    if changed:
        patched = apply_patch(broken, make_patch(broken, gold))
        assert patched == {path: gold[path] for path in changed}


def test_a_patch_may_have_several_hunks_and_a_header_of_git():
    text = text_of([str(n) for n in range(1, 30)])
    new = text.replace("\n3\n", "\n3\nthree\n").replace("\n25\n", "\n-25\n")
    patch = make_patch({"p/x.py": text}, {"p/x.py": new})
    assert patch.count("@@ -") == 2
    head = "diff --git a/p/x.py b/p/x.py\nindex 0123456..789abcd 100644\n"
    assert apply_patch({"p/x.py": text}, head + patch) == {"p/x.py": new}


ODD_TEXT = st.lists(
    st.sampled_from(
        ["a\n", "b\n", "a\r\n", "b\r\n", "c\r", "\u2028\n", "\x0c\n", "\x85 x\n", "\n"]
    ),
    min_size=1,
    max_size=8,
)


@given(ODD_TEXT, ODD_TEXT, st.booleans(), st.booleans())
def test_a_patch_keeps_odd_line_ends_and_no_line_end(one, two, cut_one, cut_two):
    broken, gold = ("".join(each) + "z" * cut for each, cut in ((one, cut_one), (two, cut_two)))
    if broken != gold:
        patch = make_patch({"x.py": broken}, {"x.py": gold})
        assert apply_patch({"x.py": broken}, patch) == {"x.py": gold}


@pytest.mark.parametrize("in_file", ["\n", "\r\n"])
@pytest.mark.parametrize("in_diff", ["\n", "\r\n"])
def test_a_patch_fits_whatever_line_ends_it_was_saved_with(in_file, in_diff):
    patch = make_patch({"x.py": "a\nb\nc\n"}, {"x.py": "a\nB\nd\nc\n"})
    patched = apply_patch({"x.py": in_file.join("abc ")[:-1]}, patch.replace("\n", in_diff))
    assert patched == {"x.py": in_file.join(["a", "B", "d", "c", ""])}


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ("--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n a\n-c\n+B\n", "does not fit x.py at line 1"),
        ("--- a/z.py\n+++ b/z.py\n@@ -1 +1 @@\n-a\n+B\n", "z.py, which is not there"),
        ("--- /dev/null\n+++ b/x.py\n@@ -0,0 +1 @@\n+B\n", "adds x.py, which is there already"),
        ("--- /dev/null\n+++ b/../z.py\n@@ -0,0 +1 @@\n+B\n", "outside of the tree"),
        ("--- a/x.py\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n", "removes or renames"),
        ("--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n a\n", "malformed|within a hunk|does not fit"),
        ("return None", "no unified diff"),
    ],
    ids=[
        "another tree",
        "another project",
        "new file that is there",
        "new file elsewhere",
        "removed",
        "cut short",
        "no diff",
    ],
)
def test_a_patch_that_does_not_fit_says_why(patch, reason):
    with pytest.raises(ValueError, match=reason):
        apply_patch({"x.py": "a\nb\n"}, patch)


def test_a_patch_may_add_files_also_empty_ones():
    head = "diff --git a/y.py b/y.py\nnew file mode 100644\nindex 0000000..e69de29\n"
    patch = head + "--- /dev/null\n+++ b/z.py\n@@ -0,0 +1,2 @@\n+B\n+C\n"
    files = {"x.py": "a\n"}
    assert apply_patch(files, patch) == {"y.py": "", "z.py": "B\nC\n"}
    assert files == {"x.py": "a\n"}


@pytest.mark.parametrize(
    ("broken", "gold", "num_edits"),
    [
        ("f(\n    a,\n    b,\n)\nx = 1\n", "f(\n    a(\n    b,\n    ),\n)\nx = 1\n", 1),
        ("x = (1 +\n     2)\n", "x = [1 +\n     2]\n", 1),
        ("if a:\n    b\nc\nd\n", "if a:\n    b\n    c\nd + 1\n", 2),
        ("a = 1\nb = 2\nc = 3\n", "a = 2\nb = 2\nc = 4\n", 2),
        ("try:\n    a\nexcept B:\n    c\n", "a\nif B:\n    c\n", 1),
    ],
)
def test_no_edit_leaves_what_does_not_parse(broken, gold, num_edits):
    """`edit_lines` refuses those, so that gold could not be carried out with the tools."""
    edits = make_edits({"x.py": broken}, {"x.py": gold})
    workspace = Workspace.of({"x.py": broken}, ("x.py",))
    tools = Toolbox(workspace, run_visible=no_sandbox)
    for edit in edits:
        tools.edit_lines(edit.path, edit.start, edit.end, edit.text)
    assert workspace.files["x.py"] == gold
    assert len(edits) == num_edits
