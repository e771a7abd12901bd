"""Modules and texts that hold anything: line ends, BOM, coding lines, odd characters."""

import ast
from dataclasses import dataclass

from hypothesis import strategies as st

from envs.source_text import BOM, encode_source

CODECS = (None, None, "utf-8", "latin-1", "cp1252", "euc-jp", "shift_jis", "koi8-r", "ascii")
ENDS = ("\n", "\r\n", "\r", "mixed")
ODD = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\x1f\x7f\x9f\u00a0\u00e9\u65e5\u20ac\u0416"
ODD += "\ufffe\u0378\U0001f600\U000e0001"
INSIDE = st.text(st.sampled_from(f"ab #{ODD}{BOM}"), max_size=8)
ACROSS = st.lists(st.one_of(INSIDE, st.sampled_from(["\n", "\r\n", "\r"])), max_size=4).map("".join)
NASTY = st.one_of(
    st.text(
        st.sampled_from(f"a \t\n\r\0\x1b\ud800\udcff\udfff'\"\\<>&{{}}{ODD}{BOM}"), max_size=12
    ),
    st.sampled_from(
        ["</tool_call>", "<|im_end|>", '", "x": "', "\ud83d\ude00", "\x85{}\x85", "\r\n"]
    ),
)


@dataclass(frozen=True)
class Module:
    """A module with one bug, as a project holds it, and a text for it to print and raise.

    Attributes:
        broken: Its text with the bug.
        gold: Its text without.
        line: Of the bug.
        nasty: What its function `g` prints and raises.
    """

    broken: str
    gold: str
    line: int
    nasty: str

    @property
    def value(self) -> str:
        """What Python reads between the quotes."""
        (found,) = (
            node.value.value
            for node in ast.parse(encode_source(self.gold)).body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        )
        return str(found)


@st.composite
def modules(draw: st.DrawFn) -> Module:
    """Draw a module."""
    codec, end = draw(st.sampled_from(CODECS)), draw(st.sampled_from(ENDS))
    has_bom = draw(st.booleans()) and codec in (None, "utf-8")
    nasty = draw(NASTY)
    head = [f"# -*- coding: {codec} -*-"] if codec else []
    if codec and draw(st.booleans()):
        head = ["#!/usr/bin/python", *head]
    before = [*head, f"# {draw(INSIDE)}", f"X = '''{draw(ACROSS)}'''  # {draw(INSIDE)}", "def f():"]
    after = [
        draw(st.sampled_from(["", "\x0c", "    # \x0c"])),
        "def g():",
        f"    __import__('os').write(1, {nasty.encode('utf-8', 'surrogatepass')!a})",
        f"    raise ValueError({nasty!a})  # {draw(INSIDE)}",
    ]
    ends = draw(st.lists(st.sampled_from(ENDS[:3]), min_size=12, max_size=12))

    def text(returned: str) -> str:
        rows = [*before, f"    return {returned}", *after]
        return "".join(
            row + (ends[at] if end == "mixed" else end) for at, row in enumerate(rows)
        ).rstrip("\r\n" if cut else "")

    cut = draw(st.booleans())
    whole, fixed = (
        (BOM if has_bom else "") + each.encode(codec or "utf-8", "ignore").decode(codec or "utf-8")
        for each in (text("X + 'wrong'"), text("X"))
    )
    (line,) = (
        node.body[0].lineno
        for node in ast.parse(encode_source(whole)).body
        if isinstance(node, ast.FunctionDef) and node.name == "f"
    )
    return Module(broken=whole, gold=fixed, line=line, nasty=nasty)
