"""One JSON value from a place in a text, as models write it: strict JSON and its usual slips.

Taken beside JSON, because each has one reading: single quotes and Python's escapes inside them,
names without quotes, True/False/None, a comma before a bracket, raw line ends in a text, an escape
that neither JSON nor Python knows (backslash d), and brackets missing before a closing tag. Gemma's
`<|"|>` and Python's triple quotes are quotes. Refused, with the place: numbers that are not finite
or longer than 4,300 digits, half a surrogate pair, a name given twice with two values, more than
`MAX_DEPTH` brackets inside each other. Reads each character a bounded number of times.
Tests: tests/envs/calls/test_reader.py.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from math import isfinite

from envs.calls.malformed import Malformed
from envs.records import JsonValue, Repair

MAX_DEPTH = 26  # 20 levels of arguments and what may stand around them
_MAX_DIGITS = 4300  # CPython's own limit for reading an int
_SPACE = re.compile(r"[\s\ufeff\u200b-\u200d\u2060]*")
_NAME = re.compile(r"[A-Za-z_][\w-]{0,63}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![\w.])")
_NUMBER_LIKE = re.compile(r"[-+.0-9eE]+")
_WORD = re.compile(r"[\w.+-]{0,64}\s*+[,}\]]")  # all that stands there in place of a value
_LITERALS: dict[str, tuple[JsonValue, bool]] = {
    "true": (True, True),
    "false": (False, True),
    "null": (None, True),
    "True": (True, False),
    "False": (False, False),
    "None": (None, False),
}
_QUOTES = ('"""', "'''", '<|"|>', "<escape>", '"', "'")
_RAW = ('<|"|>', "<escape>")  # no escapes inside
_CONTROL = re.compile(r"[\x00-\x1f]")
_PLAIN = {quote: re.compile(rf"[^{quote[0]}\\]*") for quote in _QUOTES}
_JSON_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_PYTHON_ESCAPES = _JSON_ESCAPES | {"'": "'", "a": "\a", "v": "\v", "\n": ""}
_PYTHON_CODES = re.compile(
    r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|N\{([A-Z0-9 -]{1,80})\}|([0-7]{1,3})"
)
_CODE = re.compile(r"u([0-9a-fA-F]{4})")
_ONLY_PYTHON = "avxNU01234567\n"  # escapes that Python reads in one way and a slip means in another


@dataclass(frozen=True)
class Decoded:
    """A value, the offset behind it, and what was corrected to read it."""

    value: JsonValue
    end: int
    repairs: frozenset[Repair] = frozenset()


def decode(
    text: str, at: int, *, closing: re.Pattern[str] | None = None, is_python: bool = False
) -> Decoded:
    """Read the value that starts at `at`.

    Args:
        text: What a model wrote, without lone surrogates.
        at: Where to start; white space is skipped.
        closing: Marks before which brackets may be missing.
        is_python: Read double-quoted texts as Python does, too.

    Raises:
        Malformed: It is no such value.
    """
    reader = _Reader(text, closing, is_python)
    try:
        value, end = reader.value(at, 1)
    except Malformed as error:
        error.is_doubtful = reader.is_doubtful or not _WORD.match(text, error.at)
        raise
    return Decoded(value, end, frozenset(reader.repairs))


def skip_space(text: str, at: int) -> int:
    """Return the offset of the first character from `at` on that is no white space."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


@dataclass
class _Reader:
    text: str
    closing: re.Pattern[str] | None
    is_python: bool
    repairs: set[Repair] = field(default_factory=set)
    has_single: bool = False
    is_closed: bool = False  # by a closing mark: all open brackets count as closed
    is_doubtful: bool = False  # behind a value, where its text may have ended too early

    def value(self, at: int, depth: int) -> tuple[JsonValue, int]:
        at = skip_space(self.text, at)
        if self.text.startswith(("{", "["), at):
            if depth > MAX_DEPTH:
                raise Malformed(at, "fewer brackets inside each other")
            self.is_doubtful = False
            return (self._object if self.text[at] == "{" else self._list)(at, depth)
        if self.text.startswith(_QUOTES, at):
            return self._string(at)
        if self.text.startswith(tuple("-0123456789"), at):
            return self._number(at)
        return self._literal(at)

    def _object(self, at: int, depth: int) -> tuple[JsonValue, int]:
        found: dict[str, JsonValue] = {}
        at = skip_space(self.text, at + 1)
        while not self.text.startswith("}", at):
            start = at
            key, at = self._key(at)
            at = skip_space(self.text, at)
            if not self.text.startswith(":", at):
                raise self._unexpected(at, "':'")
            if self.text.startswith(_QUOTES, start):
                self.is_doubtful = False
            value, at = self.value(at + 1, depth + 1)
            if key in found and (found[key] != value or type(found[key]) is not type(value)):
                raise Malformed(start, "each name once")
            found[key] = value
            at, is_last = self._next(at, "}")
            if is_last:
                return found, at
        return found, at + 1

    def _list(self, at: int, depth: int) -> tuple[JsonValue, int]:
        found: list[JsonValue] = []
        at = skip_space(self.text, at + 1)
        while not self.text.startswith("]", at):
            value, at = self.value(at, depth + 1)
            found.append(value)
            at, is_last = self._next(at, "]")
            if is_last:
                return found, at
        return found, at + 1

    def _next(self, at: int, bracket: str) -> tuple[int, bool]:
        """Go past the comma or the bracket behind a member; True behind the last one."""
        self.is_doubtful = True
        if self.is_closed:
            return at, True
        at = skip_space(self.text, at)
        if self.text.startswith(bracket, at):
            return at + 1, True
        if self.text.startswith(",", at):
            at = skip_space(self.text, at + 1)
            if self.text.startswith(bracket, at):
                self.repairs.add("commas")
                return at + 1, True
            return at, False
        if self.closing and self.closing.match(self.text, at):
            self.is_closed = True
            self.repairs.add("brackets")
            return at, True
        hint = r" (or \")" if self.text.startswith('"', at - 1) else ""
        raise self._unexpected(at, f"',' or '{bracket}'{hint}")

    def _key(self, at: int) -> tuple[str, int]:
        if self.text.startswith(_QUOTES, at):
            return self._string(at)
        if found := _NAME.match(self.text, at):
            self.repairs.add("quotes")
            return found[0], found.end()
        raise self._unexpected(at, "a name in double quotes")

    def _number(self, at: int) -> tuple[JsonValue, int]:
        found = _NUMBER.match(self.text, at)
        if not found:
            rest = _NUMBER_LIKE.match(self.text, at)
            is_cut = rest is not None and rest.end() == len(self.text)
            raise Malformed(at, "a number", is_cut=is_cut)
        if found[1] is None and found[2] is None:
            if len(found[0].lstrip("-")) > _MAX_DIGITS:
                raise Malformed(at, f"a number of at most {_MAX_DIGITS:,} digits")
            return int(found[0]), found.end()
        number = float(found[0])
        if not isfinite(number):
            raise Malformed(at, "a finite number")
        return number, found.end()

    def _literal(self, at: int) -> tuple[JsonValue, int]:
        found = _NAME.match(self.text, at)
        word = found[0] if found else ""
        if word in _LITERALS:
            value, is_json = _LITERALS[word]
            if not is_json and not self.is_python:
                self.repairs.add("literals")
            return value, at + len(word)
        is_end = at + len(word) == len(self.text)
        if is_end and any(literal.startswith(word) for literal in _LITERALS):
            at = len(self.text)
        is_number = word in ("NaN", "Infinity", "inf", "nan")
        raise self._unexpected(at, "a finite number" if is_number else "a value")

    def _string(self, at: int) -> tuple[str, int]:
        text, opened = self.text, at
        quote = next(quote for quote in _QUOTES if text.startswith(quote, at))
        if quote in ("'", "'''", '"""') and not self.is_python:
            self.repairs.add("quotes")
        self.has_single = self.has_single or quote == "'"  # then all of it is Python's repr
        is_python = self.is_python or self.has_single or quote in ("'''", '"""')
        parts, at, surrogate = [], at + len(quote), -1
        while True:
            found = _PLAIN[quote].match(text, at)
            assert found is not None, "the pattern matches nothing, too"
            parts.append(found[0])
            at = found.end()
            if quote == '"' and not is_python and _CONTROL.search(found[0]):
                self.repairs.add("newlines")
            if at == len(text):
                raise Malformed(at, "the end of a text", opened=opened, is_cut=True)
            if text.startswith(quote, at):
                return self._joined(parts, surrogate, at + len(quote)), at + len(quote)
            if text[at] == "\\" and quote not in _RAW:
                try:
                    part, end = self._escape(at, is_python)
                except Malformed as error:
                    error.opened = opened if error.is_cut else None
                    error.resume = self._behind_text(at, quote)
                    raise
                if "\ud800" <= part[:1] <= "\udfff" and surrogate < 0:
                    surrogate = at
            else:
                part, end = text[at], at + 1
            parts.append(part)
            at = end

    def _joined(self, parts: list[str], surrogate: int, end: int) -> str:
        joined = "".join(parts)
        if surrogate < 0:
            return joined
        try:  # a pair of escapes is one character
            return joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise Malformed(surrogate, "a whole surrogate pair", resume=end) from None

    def _behind_text(self, at: int, quote: str) -> int:
        end = re.compile(rf"(?:[^\\]|\\.)*?{re.escape(quote)}", re.DOTALL).match(self.text, at)
        return end.end() if end else len(self.text)

    def _escape(self, at: int, is_python: bool) -> tuple[str, int]:
        """Read the escape at `at`; JSON's, Python's, or a backslash that is one."""
        text, kind = self.text, self.text[at + 1 : at + 2]
        if not kind:
            raise Malformed(len(text), "the end of a text", is_cut=True)
        known = _PYTHON_ESCAPES if is_python else _JSON_ESCAPES
        if kind in known:
            return known[kind], at + 2
        if kind == "/" and not is_python:
            return kind, at + 2
        found = (_PYTHON_CODES if is_python else _CODE).match(text, at + 1)
        if found:
            return self._character(found, at), found.end()
        if kind == "'":
            self.repairs.add("escapes")
            return kind, at + 2
        if kind == "u" or kind in _ONLY_PYTHON:
            raise Malformed(at, "\\\\ for a backslash")
        self.repairs.add("escapes")
        return "\\", at + 1

    def _character(self, found: re.Match[str], at: int) -> str:
        groups = found.groups()
        if len(groups) > 1 and groups[4]:
            return chr(int(groups[4], 8))
        if len(groups) > 1 and groups[3]:
            try:
                return unicodedata.lookup(groups[3])
            except KeyError:
                raise Malformed(at, "a character's name") from None
        code = int(next(group for group in groups if group), 16)
        if code > 0x10FFFF:
            raise Malformed(at, "a character's code")
        return chr(code)

    def _unexpected(self, at: int, expected: str) -> Malformed:
        return Malformed(at, expected, is_cut=at >= len(self.text))
