"""Mistakes are what the tools refuse, or what leaves the bug in; nothing else is made for one."""

from collections.abc import Sequence

import pytest

from envs.errors import InfrastructureError
from envs.habits.mistakes import MISTAKES, Mistake, make_mistake
from envs.policies import call
from envs.records import TestReport, ToolCall
from envs.tools import Toolbox
from envs.workspace import Workspace

FILES = {"pkg/m.py": 'def f(a):\n    return (a -\n            1)\n\nX = "a"  # b\n', "n.txt": "a\n"}
READ = call("read_lines", path="pkg/m.py", start=2, end=3)
EDIT = call("edit_lines", path="pkg/m.py", start=2, end=3, text="    return (a +\n            1)")


def run(*calls: ToolCall) -> tuple[Sequence[bool], dict[str, str]]:
    """Carry out calls; returns whether each was refused, and the files."""

    def no_tests(files: dict[str, str], selector: str) -> TestReport:
        raise InfrastructureError("none")

    tools = Toolbox(Workspace.of(FILES, tuple(FILES)), run_visible=no_tests)
    return [each.is_error for each in tools.run_turn(calls)], dict(tools.workspace.files)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_or_leaves_the_bug_in_and_the_right_call_follows(
    mistake: Mistake,
) -> None:
    lines = FILES["pkg/m.py"].split("\n")
    (right,) = [each for each in (READ, EDIT) if make_mistake(mistake, each, lines=lines)]
    wrong = make_mistake(mistake, right, lines=lines)
    assert wrong is not None and wrong.arguments != right.arguments
    refused, files = run(READ, wrong)
    assert files == FILES and refused == [False, mistake != "wrong_fix"]
    refused, files = run(READ, wrong, right)
    assert not refused[-1] and (files != FILES) == (right is EDIT)


def test_who_reads_whole_files_takes_a_wrong_path() -> None:
    wrong = make_mistake("wrong_path", call("read_file", path="pkg/m.py"), lines=[])
    assert wrong is not None and run(wrong)[0] == [True]


@pytest.mark.parametrize(
    ("mistake", "right"),
    [
        ("broken_edit", call("edit_lines", path="pkg/m.py", start=5, end=5, text='X = "c"  # d')),
        ("broken_edit", call("edit_lines", path="n.txt", start=1, end=1, text="b")),
        ("wrong_fix", call("edit_lines", path="pkg/m.py", start=4, end=3, text="x = 1")),
        ("wrong_path", call("read_lines", path="README", start=1, end=1)),
        ("missing_argument", call("read_file", path="pkg/m.py")),
    ],
    ids=["in a comment", "no code", "insertion", "no other name", "another tool"],
)
def test_what_would_not_be_one_is_not_made(mistake: Mistake, right: ToolCall) -> None:
    path = str(right.arguments["path"])
    lines = FILES.get(path, "").split("\n")
    assert make_mistake(mistake, right, lines=lines) is None
