import pytest

from envs.records import Edit
from envs.tasks.trivial import is_trivial

TEXT = "def f(a, b):\n    c = a\n    return g(\n        {line}\n    )\n"  # lines 3 to 5 are one


def tells(line, gold, said, *, at=4):
    """Tell whether a task is trivial in which line 4 is to be replaced, and line `at` is named."""
    edits = [Edit(path="m/a.py", start=4, end=4, text=f"        {gold}\n")]
    statement = f"tests/test_a.py::test_f fails:\nm/a.py:{at}: {said}"
    return is_trivial(statement, edits=edits, workspace={"m/a.py": TEXT.format(line=line)})


@pytest.mark.parametrize(
    ("line", "gold", "said", "expected"),
    [
        ("x + 1", "a + 1", "in f | NameError: name 'x' is not defined", True),
        ("c + 1", "a + 1", "in f | TypeError: can only concatenate str", True),
        ("a + 1", "a + 2", "in f | assert 1 == 2", True),
        ("not a", "a", "in f | AttributeError: no such", True),
        ("a + 1", "a + 2", "in f | ValueError: wrong", False),
        ("a, b", "b, a", "in f | TypeError: wrong", True),
        ("a, b", "b, a", "in f | ValueError: wrong", False),
        ("x + x", "a + b", "in f | NameError: name 'x' is not defined", False),
    ],
)
def test_the_line_and_the_one_wrong_token_must_be_said(line, gold, said, expected):
    assert tells(line, gold, said) == expected
    assert tells(line, gold, said, at=3) == expected
    assert not tells(line, gold, said, at=2)


def test_each_place_must_be_said_and_what_was_left_out_never_is():
    edits = [Edit(path="m/a.py", start=line, end=line, text="    c = b\n") for line in (2, 4)]
    workspace = {"m/a.py": TEXT.format(line="c = a")}
    frames = [f"m/a.py:{line}: in f | TypeError: wrong" for line in (2, 4)]
    assert is_trivial("\n".join(frames), edits=edits, workspace=workspace)
    assert not is_trivial(frames[0], edits=edits, workspace=workspace)
    missing = [Edit(path="m/a.py", start=4, end=3, text="    c = b\n")]
    assert not is_trivial(frames[1], edits=missing, workspace=workspace)
