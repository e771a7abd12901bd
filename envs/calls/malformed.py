"""What is wrong with a call: where it went wrong, what stands there, what was expected; short.

The texts go back to the model as an observation, so each stays under 80 tokens, also in a
vocabulary of a thousand where every byte of another script is a token: whatever a model wrote is
clipped by bytes, not by characters. Tests: tests/envs/calls/test_reader.py.
"""

from bisect import bisect_right

_EXCERPT_BYTES = 18  # on the wrong character and behind it


class Malformed(Exception):
    """Something is not as a call is written; read by the reader, shown to the model.

    Args:
        at: Offset of the first character that does not fit.
        expected: What would have fitted, as a phrase.
        is_cut: The turn ended before the call did.
        opened: Offset of the text that has no end, if that is what is wrong.
        resume: Offset from `at` on that is outside any text.
        is_doubtful: A quote inside a text may be missing its backslash, so nothing behind `at` can
            be told to stand inside or outside a text.
    """

    def __init__(
        self,
        at: int,
        expected: str,
        *,
        is_cut: bool = False,
        opened: int | None = None,
        resume: int | None = None,
        is_doubtful: bool = False,
    ) -> None:
        super().__init__(expected)
        self.at, self.expected, self.is_cut, self.opened = at, expected, is_cut, opened
        self.resume = at if resume is None else resume
        self.is_doubtful = is_doubtful


class Places:
    """Offsets of a text as line and column, both from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts: list[int] | None = None

    def describe(self, error: Malformed) -> str:
        """Say in a line what is wrong."""
        if error.opened is not None:
            return f"cut off: what opens at {self.place(error.opened)} has no end"
        if error.is_cut:
            return f"cut off at {self.place(error.at)}, expected {error.expected}"
        near = clip(self._text[error.at : error.at + _EXCERPT_BYTES], _EXCERPT_BYTES)
        return f"{self.place(error.at)}, near '{near}': expected {error.expected}"

    def place(self, at: int) -> str:
        """Name an offset."""
        if self._starts is None:  # once: a turn may hold thousands of errors
            text = self._text
            self._starts = [0, *(n for n, char in enumerate(text, start=1) if char == "\n")]
        line = bisect_right(self._starts, at)
        return f"line {line} column {at - self._starts[line - 1] + 1}"


def clip(text: str, max_bytes: int) -> str:
    """Return the start of `text` in one line of at most `max_bytes` bytes of UTF-8."""
    shown = "".join(char if char.isprintable() else " " for char in text[:max_bytes])
    data = shown.encode("utf-8", "replace")
    if len(data) <= max_bytes and len(text) <= max_bytes:
        return shown
    return data[: max_bytes - 3].decode("utf-8", "ignore") + "..."
