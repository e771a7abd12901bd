"""An edit replaces its lines and nothing else, whatever line ends, BOM or characters there are."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.records import Span
from envs.source_text import BOM, source_lines
from envs.workspace import Workspace

LINE = st.text(st.sampled_from([*"ab ", "\u2028", "\x85", "\x0c", "\x1c", "\u00e9"]), max_size=4)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
ROWS = st.lists(st.tuples(LINE, ENDS), max_size=6)


def edited(text: str, start: int, end: int, new: str) -> str:
    workspace = Workspace.of({"x.py": text}, ("x.py",))
    workspace.edit(Span(path="x.py", start=start, end=end), new)
    return workspace.files["x.py"]


TABLE = {
    "CRLF": ("a\r\nb\r\nc\r\n", 2, 2, "B", "a\r\nB\r\nc\r\n"),
    "CRLF, two for one": ("a\r\nb\r\nc\r\n", 2, 2, "B\nb\n", "a\r\nB\r\nb\r\nc\r\n"),
    "CRLF, inserted": ("a\r\nb\r\n", 2, 1, "x", "a\r\nx\r\nb\r\n"),
    "CRLF, inserted on top": ("a\r\nb\r\n", 1, 0, "x", "x\r\na\r\nb\r\n"),
    "CR": ("a\rb\rc\r", 2, 2, "B", "a\rB\rc\r"),
    "CR, appended": ("a\rb\r", 3, 2, "c", "a\rb\rc\r"),
    "mixed, one for one": ("a\r\nb\nc\rd\n", 1, 3, "A\nB\nC", "A\r\nB\nC\rd\n"),
    "no end": ("a\nb", 1, 1, "A", "A\nb"),
    "no end, last line": ("a\nb", 2, 2, "B\n", "a\nB"),
    "no end, appended": ("a\r\nb", 3, 2, "c", "a\r\nb\r\nc"),
    "no end, one line": ("a", 2, 1, "b", "a\nb"),
    "no end, deleted": ("a\nb", 2, 2, "", "a\n"),
    "no end, empty line": ("a\nb", 2, 2, "\n", "a\n\n"),
    "BOM": (f"{BOM}a\nb\n", 1, 1, "A", f"{BOM}A\nb\n"),
    "BOM, inserted on top": (f"{BOM}a\n", 1, 0, "x", f"{BOM}x\na\n"),
    "BOM, all deleted": (f"{BOM}a\n", 1, 1, "", BOM),
    "coding line": ("# coding: latin-1\nb\n", 2, 2, "B", "# coding: latin-1\nB\n"),
    "form feed": ("a\n\x0c\nb\n", 3, 3, "B", "a\n\x0c\nB\n"),
    "U+2028": ("a = '\u2028'\nb\n", 2, 2, "B", "a = '\u2028'\nB\n"),
    "U+2028 put in": ("a\nb\n", 1, 1, "'\u2028\x85'", "'\u2028\x85'\nb\n"),
    "NEL, FS, VT": ("'\x85\x1c\x0b'\r\nb\r\n", 2, 2, "B", "'\x85\x1c\x0b'\r\nB\r\n"),
    "blank lines at the end": ("a\n\n\n", 1, 1, "A", "A\n\n\n"),
    "empty file": ("", 1, 0, "a", "a\n"),
    "a lone CR and a lone LF stay two": ("a\rb\nc\n", 2, 2, "\n", "a\r\n\nc\n"),
    "CR LF by deletion": ("a\rb\n\nc\n", 2, 2, "", "a\r\n\nc\n"),
}


@pytest.mark.parametrize(
    ("before", "start", "end", "new", "after"), TABLE.values(), ids=TABLE.keys()
)
def test_an_edit_leaves_what_it_does_not_replace(before, start, end, new, after):
    assert edited(before, start, end, new) == after


@settings(max_examples=1000)
@given(st.data(), st.sampled_from(["", BOM]), ROWS, ROWS, LINE)
def test_all_other_bytes_stay_and_lines_are_counted_right(data, bom, rows, new, rest):
    text = bom + "".join(map("".join, rows)) + rest
    lines = source_lines(text, keepends=True)
    start = data.draw(st.integers(1, len(lines) + 1))
    end = data.draw(st.integers(start - 1, len(lines)))
    workspace = Workspace.of({"x.py": text}, ("x.py",))
    put_in = "".join(map("".join, new))
    wanted = [line for line, _ in re.findall(r"([^\r\n]*)(\r\n|\r|\n)", put_in)]
    span = workspace.edit(Span(path="x.py", start=start, end=end), put_in)
    after = workspace.files["x.py"]
    head, tail = bom + "".join(lines[: start - 1]), "".join(lines[end:])
    assert after.startswith(head)
    assert after.endswith(tail)
    plain = [line.rstrip("\r\n") for line in lines]
    assert source_lines(after) == plain[: start - 1] + wanted + plain[end:]
    assert (span.start, span.end) == (start, start + len(wanted) - 1)
    usual = {"\n", *re.findall(r"\r\n|\r|\n", text)}
    assert set(re.findall(r"\r\n|\r|\n", after)) <= usual | ({"\r\n"} if "\r" in text else set())
    for number in range(end + 1, len(lines) + 1):
        moved = workspace.moved(Span(path="x.py", start=number, end=number), since=0)
        assert source_lines(after)[moved.start - 1] == plain[number - 1]
