"""Tools answer with text, refuse what would corrupt the workspace, keep pointers true."""

import contextlib
import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.grading.graders import VISIBLE_LIMIT_S
from envs.policies import call
from envs.prompts import system_prompt
from envs.records import Span, TestReport, ToolCall
from envs.sandbox.fork_server import TIMEOUT_FACTOR
from envs.tools import (
    MAX_TEST_RUNS,
    NAMES,
    Toolbox,
    ToolError,
    convert_arguments,
    describe_tools,
    list_tools,
    parse_range,
)
from envs.workspace import Workspace
from tests.envs.calls.written_calls import parse_calls
from tests.envs.world import FILES, TOKENIZER
from train.config.stage_settings import RolloutSettings

MOST_TOKENS = 80  # of an error, in the smallest vocabulary that the demo could have


def toolbox(editable: tuple[str, ...] = ("m0.py",)) -> Toolbox:
    def failing(files: dict[str, str], selector: str) -> TestReport:
        return TestReport(num_passed=1, failures=(("c0", f"{selector}: returned 1"),))

    return Toolbox(Workspace.of(FILES, editable), run_visible=failing)


def test_reading_tools_show_numbered_lines_and_ranges() -> None:
    tools = toolbox()
    assert tools.run(call("list_files")).text == "m0.py 8 lines\nm1.py 3 lines"
    assert tools.run(call("outline", path="m0.py")).text == "1-3 qax\n6-8 lum"
    assert tools.run(call("search", pattern="return")).text.count("\n") == 2
    shown = tools.run(call("read_lines", path="m0.py", start=2, end=3))
    assert shown.text == '2:     """abs of a minus b"""\n3:     return abs(a + b)'
    assert shown.spans == (Span(path="m0.py", start=2, end=3),)
    assert tools.run(call("run_tests")).text.startswith("1 passed, 1 failed")


def test_no_turn_can_ask_for_so_many_runs_of_tests_that_a_limit_passes() -> None:
    calls = parse_calls("run_tests()\n" * 60)
    results = toolbox().run_turn(calls)
    assert len(results) == len(calls) == 60
    assert [each.is_error for each in results] == [False] * MAX_TEST_RUNS + [True] * (
        60 - MAX_TEST_RUNS
    )
    longest_s = (
        TIMEOUT_FACTOR + 2 * TIMEOUT_FACTOR
    ) * VISIBLE_LIMIT_S  # of one run, on a busy machine
    limits = RolloutSettings()
    assert longest_s < limits.tool_limit_s and MAX_TEST_RUNS * longest_s < limits.turn_limit_s


def test_edit_replaces_inserts_and_shows_the_window() -> None:
    tools = toolbox()
    text = tools.run(
        call("edit_lines", path="m0.py", start=3, end=3, text="    return abs(a - b)")
    ).text
    assert "3:     return abs(a - b)" in text
    tools.run(call("edit_lines", path="m0.py", start=1, end=0, text="import os"))
    assert tools.workspace.files["m0.py"].startswith("import os\ndef qax")


REFUSED = {
    "syntax error": call("edit_lines", path="m0.py", start=3, end=3, text="    return ("),
    "null byte": call("edit_lines", path="m0.py", start=3, end=3, text="x = '\x00'"),
    "read-only": call("edit_lines", path="m1.py", start=3, end=3, text="    return 1"),
    "no such lines": call("edit_lines", path="m0.py", start=90, end=91, text="x"),
    "no file": call("read_file", path="../secret"),
    "unknown tool": call("bash", command="ls"),
    "missing argument": call("read_lines", path="m0.py"),
    "unknown argument": call("submit", force=True),
    "wrong type": call("read_lines", path="m0.py", start="x", end=2),
    "bad range": call("note", file="m0.py", facts="x", lines="all"),
    "malformed": ToolCall(name="", error="not JSON"),
}


@pytest.mark.parametrize("bad", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_call_is_refused_and_changes_nothing(bad: ToolCall) -> None:
    tools = toolbox()
    with pytest.raises(ToolError):
        tools.run(bad)
    assert tools.workspace.files == FILES


def test_numbers_as_text_are_read_as_numbers() -> None:
    assert toolbox().run(call("read_lines", path="m0.py", start="2", end="2")).text.startswith("2:")


def test_line_numbers_that_an_edit_moved_are_stale_until_read_again() -> None:
    tools = toolbox()
    tools.run(call("read_file", path="m0.py"))
    tools.run(call("edit_lines", path="m0.py", start=1, end=0, text="import os"))
    edit = call("edit_lines", path="m0.py", start=8, end=8, text="    return 0")
    with pytest.raises(ToolError, match="stale"):
        tools.run(edit)
    again = tools.run(call("read_lines", path="m0.py", start=7, end=9))
    tools.workspace.show(again.spans[0], version=again.version)
    tools.run(call("edit_lines", path="m0.py", start=9, end=9, text="    return 0"))


def test_every_tool_has_a_line_for_the_model() -> None:
    rows = describe_tools().splitlines()
    assert [row.split("(")[0] for row in rows] == list(NAMES)
    assert all(row.endswith(".") for row in rows)


def test_full_history_offers_nothing_that_rewrites() -> None:
    left_out = {"note", "evict", "compact"}
    assert set(list_tools("learned")) - set(list_tools("full_history")) == left_out
    for tools in ("full", "brief", "none"):
        prompt = system_prompt(tools, "full_history", example="")
        assert not any(name in prompt for name in left_out)
        assert "submit" in prompt or tools == "none"
        assert ("evict" in system_prompt(tools, "learned", example="")) == (tools != "none")


@given(st.one_of(st.text(max_size=12), st.from_regex(r"[0-9]{1,2}-[0-9]{1,2}", fullmatch=True)))
def test_a_range_is_two_numbers_or_nothing(text: str) -> None:
    found = parse_range(text)
    assert found is None or 1 <= found[0] <= found[1]


@given(
    edits=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 3), st.integers(0, 3)), max_size=4),
    target=st.integers(1, 8),
)
def test_a_pointer_follows_its_line_through_edits(
    edits: list[tuple[int, int, int]], target: int
) -> None:
    lines = [f"line{n}" for n in range(1, 9)]
    workspace = Workspace.of({"a": "\n".join(lines) + "\n"}, ("a",))
    marker = lines[target - 1]
    for start, removed, added in edits:
        count = len(workspace.lines("a"))
        start = min(start, count + 1)
        end = min(start + removed - 1, count)
        if marker in workspace.lines("a")[start - 1 : end]:
            continue
        workspace.edit(Span(path="a", start=start, end=end), "\n".join(["new"] * added))
    now = workspace.moved(Span(path="a", start=target, end=target), since=0)
    assert workspace.lines("a")[now.start - 1] == marker


def test_trees_are_built_from_many_threads_at_once() -> None:
    """Python 3.11 breaks when a thread parses while another is stopped inside `ast.parse`.

    A collection that yields to other threads, as one that runs finalizers may, stops it there.
    """
    text = "".join(f"def f{n}(a):\n    return [[(a + {n})] * 2]\n\n\n" for n in range(60))

    def outline(_: int) -> int:
        tools = Toolbox(
            Workspace.of({"a.py": text}, ()),
            run_visible=lambda files, selector: TestReport(num_passed=0, failures=()),
        )
        return len(tools.run(call("outline", path="a.py")).text)

    def yield_to_others(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    threshold = gc.get_threshold()
    gc.set_threshold(20)
    gc.callbacks.append(yield_to_others)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(outline, range(400)))) == 1
    finally:
        gc.callbacks.remove(yield_to_others)
        gc.set_threshold(*threshold)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("o1", ["o1"]),
        (["o1", "o2"], ["o1", "o2"]),
        ('["o1","o2"]', ["o1", "o2"]),
        ("['o1', 'o2']", ["o1", "o2"]),
        ("[o1, o2]", ["o1", "o2"]),
        ("o1, o2", ["o1", "o2"]),
        (" o1 o2\n", ["o1", "o2"]),
    ],
)
def test_a_list_may_come_as_text(given: object, expected: list[str]) -> None:
    assert convert_arguments(Toolbox.evict, {"observation_ids": given}) == {
        "observation_ids": expected
    }


@pytest.mark.parametrize(
    ("given", "expected"), [("1", 1), (" 12\n", 12), ("+3", 3), ("-1", -1), (4.0, 4), (5, 5)]
)
def test_a_number_may_come_as_text(given: object, expected: int) -> None:
    arguments = {"path": "a", "start": given, "end": 2}
    assert convert_arguments(Toolbox.read_lines, arguments)["start"] == expected


def test_a_text_may_come_as_a_number_and_null_is_the_default() -> None:
    note = convert_arguments(Toolbox.note, {"file": "a", "facts": "x", "lines": 4})
    assert note["lines"] == "4"
    assert convert_arguments(Toolbox.run_tests, {"selector": None}) == {}


LONG = "\U0001f600" * 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value", [LONG, True, 2.5, [1], {"a": 1}, None, [LONG], "9" * 400], ids=repr
)
def test_an_error_about_arguments_is_short(name: str, value: object) -> None:
    tool = getattr(Toolbox, name)
    names = checked_names(tool)
    for arguments in (dict.fromkeys(names, value), {LONG: value}, {}):
        with contextlib.suppress(ToolError):
            convert_arguments(tool, arguments)
            continue
        with pytest.raises(ToolError) as caught:
            convert_arguments(tool, arguments)
        assert len(TOKENIZER.encode(f"error: {caught.value}").ids) < MOST_TOKENS


def checked_names(tool: Callable[..., object]) -> list[str]:
    return [each for each in tool.__annotations__ if each != "return"]
