"""Lines are the parser's, bytes are what the coding line says; both ways round."""

import ast
import codecs
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envs.source_text import (
    BOM,
    SourceError,
    bom_of,
    decode_source,
    encode_source,
    file_bytes,
    source_lines,
    text_lines,
)
from envs.syntax import parse_python

ENDS = ("\n", "\r\n", "\r")
NO_ENDS = ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e")
TEXTS = st.text(
    st.sampled_from([*"ab \t#'", *ENDS[:1], "\r", *NO_ENDS, BOM, "\u00e9", "\U0001f600"])
)


@given(TEXTS)
def test_lines_end_at_cr_lf_and_crlf_only(text):
    pieces = text_lines(text, keepends=True)
    assert "".join(pieces) == text
    assert all(re.fullmatch(r"[^\r\n]*(\r\n|\r|\n)", piece) for piece in pieces[:-1])
    assert text_lines(text) == [piece.rstrip("\r\n") for piece in pieces]
    assert bom_of(text) + "".join(source_lines(text, keepends=True)) == text


@given(st.lists(st.tuples(st.text(st.sampled_from([*"ab", *NO_ENDS])), st.sampled_from(ENDS))))
def test_the_parser_numbers_lines_alike(rows):
    text = "".join(f"x = 1 #{comment}{end}" for comment, end in rows)
    assert [node.lineno for node in ast.parse(text).body] == [*range(1, len(rows) + 1)]
    assert len(source_lines(text)) == len(rows)


DECODED = {
    "utf-8": "x = '\u00e9'\n".encode(),
    "BOM": codecs.BOM_UTF8 + b"x = 1\r\n",
    "BOM and coding line": codecs.BOM_UTF8 + b"# coding: utf-8\nx = 1\n",
    "latin-1": "# -*- coding: latin-1 -*-\nx = '\u00e9'\n".encode("latin-1"),
    "latin-1 within the coding line": "# \u00e9 coding: latin-1\n".encode("latin-1"),
    "in the second line": "#!/usr/bin/python\n# vim: fileencoding=cp1252\nx='\u20ac'".encode(
        "cp1252"
    ),
    "behind a lone CR": b"#!x\r# coding: latin-1\rx = '\xe9'\r",
    "emacs": "# coding: latin-1-unix\nx = '\u00e9'\n".encode("latin-1"),
    "euc-jp": "# coding: euc-jp\nx = '\u65e5\u672c'\n".encode("euc-jp"),
    "shift-jis": "# coding: shift_jis\nx = '\u8868'\n".encode("shift_jis"),
    "gbk": "# coding: gbk\nx = '\u4e2d'\r\n".encode("gbk"),
    "named sig": b"# coding: utf-8-sig\nx = 1\n",
    "all that splitlines cuts at": "x = '\u2028\x85\x1c'\x0c\n".encode(),
    "latin-1 NEL": b"# coding: latin-1\nx = '\x85'\n",
    "no coding line": b"x = 1\n# coding: in the second line, behind code\n",
    "empty": b"",
    "BOM alone": codecs.BOM_UTF8,
    "NUL": b"x = 1\0\n",
}
REFUSED = {
    "not UTF-8": (b"x = '\xe9'\n", "not utf-8 at byte 6"),
    "not what it says": (b"# coding: ascii\nx = '\xe9'\n", "not ascii at byte 22"),
    "unknown": (b"# coding: klingon\n", "unknown encoding klingon"),
    "no text": (b"# coding: zlib\n", "unknown encoding zlib"),
    "BOM of another": (codecs.BOM_UTF8 + b"# coding: latin-1\n", "the coding line says latin-1"),
    "UTF-16": ("x = 1\n".encode("utf-16"), "not utf-8 at byte 1"),
    "UTF-16 named": (b"# coding: utf-16\nx = 1\n", "utf-16"),
    "lossy": (b"# coding: unicode_escape\nx = '\\x41'\n", "does not give its bytes back"),
    "lone surrogate": (b"# coding: utf-7\nx = '+2AA-'\n", "does not give its bytes back"),
}


@pytest.mark.parametrize("data", DECODED.values(), ids=DECODED.keys())
def test_a_source_decodes_to_what_python_reads_and_back(data):
    text = decode_source(data)
    assert encode_source(text) == file_bytes("x.py", text) == data
    if b"\0" not in data:
        assert ast.dump(parse_python(text)) == ast.dump(ast.parse(data))


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_source_says_why(data, reason):
    with pytest.raises(SourceError, match=reason):
        decode_source(data)


ENCODINGS = """utf8 utf-8 UTF-8-mac latin-1 iso-latin-1-dos cp1252 euc-jp gb18030 big5 koi8-r hz
    utf-7 utf-16 idna punycode rot13 raw_unicode_escape ascii iso2022_jp cp037 mbcs foo"""


@settings(max_examples=300)
@given(
    st.sampled_from([b"", codecs.BOM_UTF8]),
    st.sampled_from([b"", b"#!x", b"x", b"\x0c #", b"'''"]),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.sampled_from(ENCODINGS.split()),
    st.binary(max_size=12),
)
@example(b"", b"", b"\n", "idna", b"\xff")
def test_any_bytes_round_trip_or_say_why(bom, first, end, name, rest):
    data = bom + first + end + f"# coding={name}".encode() + end + rest
    try:
        text = decode_source(data)
    except SourceError:
        return
    assert encode_source(text) == file_bytes("m.py", text) == data


def test_what_a_coding_line_lacks_is_no_source_but_can_be_written():
    text = "# coding: ascii\nx = '\u00e9'\n"
    with pytest.raises(SourceError, match="ascii has no"):
        encode_source(text)
    with pytest.raises(SyntaxError, match="ascii has no"):
        parse_python(text)
    assert file_bytes("x.py", text) == text.encode()
    assert file_bytes("x.txt", "\ud800\n") == b"\\ud800\n"


def test_columns_count_no_bom():
    (node,) = parse_python(f"{BOM}x = 1\n").body
    assert (node.lineno, node.col_offset, node.end_col_offset) == (1, 0, 5)
