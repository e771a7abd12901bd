"""Another value of the same look: what a canary has where the suite's test has its own value.

    draw_lookalike('"25 boxes"', [rest_of_test, file, *others])   # '"25 cases"'

One run of letters or digits is another. Whoever sees both must not tell which is the suite's, so

- they are written alike: length, case, zeros, quotes and the form of a number are the same;
- they are known alike: where the suite's run stands once more in the test, in its file or in
  another one, the new one is of the same text, and stands in none that is nearer, as its own does;
  where it stands nowhere else, neither does the new one;
- they are as common: the new one is drawn as often as such stand there. So neither "the larger",
  nor "the rounder", nor "the one that the test mentions" says anything.

Where there is no such run (a value that only echoes what the test hands over) a letter or digit is
changed all the same: that is weaker, not worse than a test of another kind. What can be told, and
how often, is measured by benchmarks/canaries.py. Tests: tests/envs/grading/test_lookalikes.py.

Not covered: what it means. Who knows the language, or which value is near to what the bug gives,
guesses better than by chance.
"""

import ast
import functools
import re
import secrets
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

_DRAW = secrets.SystemRandom()
_RUNS = re.compile(r"[0-9]+|[^\W\d_]+")
_HEX_RUNS = re.compile(r"(?<=0[xX])[0-9a-fA-F]+")
_NUMBER_RUNS = re.compile(r"[0-9]+")
_QUOTE = re.compile(r"[A-Za-z]*(?:'''|\"\"\"|'|\")")
_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_DIGITS = (
    "000000" + 20 * "1" + 12 * "2" + "3333333" + "444" + "555" + "66789"
)  # as suites have them
_LETTERS = _DIGITS + string.ascii_letters
_NUM_TRIES = 12  # of a letter or digit that gives a run which stands nowhere
_NUM_LOOKS = 400  # at letters of a file for one of a kind


@dataclass(frozen=True)
class Known:
    """What is known beside a value that a test has.

    Attributes:
        test: The test without the value.
        file: The file that it is in.
        others: Further texts.
    """

    test: str
    file: str
    others: Sequence[str] = ()

    def list_nearest(self, run: str) -> list[str] | None:
        """Return the runs of the first text that holds this one, None if none does.

        Those that a nearer text holds are left out. A run is in the list as often as in the text.
        What is in quotes comes first.
        """
        nearer: Counter[str] = Counter()
        for text, own in ((self.test, 0), (self.file, 1)):  # the file has the value itself
            for quoted in (True, False):
                found = count_runs(text, quoted=quoted)
                if found[run] > own:
                    return [each for each in found.elements() if each not in nearer]
                nearer = nearer | found
        for text in self.others:
            if run in text and run in (found := count_runs(text)):
                return [each for each in found.elements() if each not in nearer]
        return None

    def holds_alike(self, own: str, new: str) -> bool:
        """Tell whether a piece of the value and what replaces it are known alike."""
        own_file, new_file = self.file.count(own) > 1, new in self.file
        return (own in self.test, own_file) == (new in self.test, new_file)


@functools.lru_cache(maxsize=128)  # gradings of a project ask about the same files
def count_runs(text: str, *, quoted: bool = False) -> Counter[str]:
    """Return how often each run of letters or digits stands in a text, or in its quotes."""
    parts = (found.group() for found in _QUOTED.finditer(text)) if quoted else (text,)
    return Counter(run for part in parts for run in _RUNS.findall(part))


def draw_lookalike(written: str, known: Known, *, strictly: bool = True) -> str | None:
    """Return a constant that could as well stand where this one does, None if there is none.

    Args:
        written: An int, float, bool or string as a file has it, on one line.
        known: What it stands beside.
        strictly: Whether it must be known as this one is, and not only be written alike.
    """
    value = ast.literal_eval(written)
    if isinstance(value, bool):
        return repr(not value)
    places = list(_find_runs(written, value))
    for start, end in _DRAW.sample(places, len(places)):
        rest = f"{written[:start]} {written[end:]}"
        beside = replace(known, test=f"{known.test}\n{rest}")
        draw = _draw_nearest if strictly else _draw_any
        new = draw(written[start:end], beside)
        changed = f"{written[:start]}{new}{written[end:]}"
        if new is None or not _is_another(changed, written, value):
            continue
        around = _list_around(places, start)
        if not strictly or all(known.holds_alike(written[a:b], changed[a:b]) for a, b in around):
            return changed
    return None


def _list_around(places: Sequence[tuple[int, int]], start: int) -> list[tuple[int, int]]:
    """Return what stands around a run: up to the runs beside it, and from the first to the last."""
    at = [first for first, _ in places].index(start)
    pairs = [(places[n][0], places[n + 1][1]) for n in (at - 1, at) if 0 <= n < len(places) - 1]
    return [*pairs, (places[0][0], places[-1][1])]


def _find_runs(written: str, value: object) -> Iterator[tuple[int, int]]:
    """Yield where letters or digits stand that may be others."""
    if not isinstance(value, str):
        pattern = _HEX_RUNS if written[:2].lower() == "0x" else _NUMBER_RUNS
        yield from (found.span() for found in pattern.finditer(written))
        return
    quote = _QUOTE.match(written)
    assert quote, written
    for found in _RUNS.finditer(written, quote.end()):
        if written[found.start() - 1] != "\\":
            yield found.span()


def _draw_nearest(run: str, known: Known) -> str | None:
    """Return a run of the same look that is known as this one is."""
    nearest = known.list_nearest(run)
    if nearest is None:
        tried = (_draw_any(run, known) for _ in range(_NUM_TRIES))
        return next((new for new in tried if new and known.list_nearest(new) is None), None)
    such = [each for each in nearest if len(each) == len(run) and each != run]
    such = [each for each in such if _look_at(each) == _look_at(run)]
    return _DRAW.choice(such) if such else None


def _draw_any(run: str, known: Known) -> str | None:
    """Return the run with one letter or digit changed into one of its kind from the file."""
    kinds = [_kind_of(each, run) for each in run]
    for _ in range(_NUM_LOOKS):
        letter = _DRAW.choice(known.file + _LETTERS)
        kind = _kind_of(letter, run) if letter.isalnum() else ""
        fit = [n for n, each in enumerate(run) if kinds[n] == kind and each != letter]
        if fit:
            at = _DRAW.choice(fit)
            return f"{run[:at]}{letter}{run[at + 1 :]}"
    return None


def _look_at(run: str) -> str:
    """Return what runs have in common that look alike: digits, zeros, case and alphabet."""
    looks = []
    for each in run:
        if each.isdigit():
            looks.append("0" if each == "0" and len(run) > 1 else "9")
        else:
            looks.append(f"{'A' if each.isupper() else 'a'}{ord(each) >> 7}")
    return " ".join(looks)


def _kind_of(letter: str, run: str) -> str:
    """Return what a letter or digit must have in common with one of a run to take its place."""
    return f"{_look_at(letter * min(2, len(run)))} {letter.lower() in 'aeiou'}"


def _is_another(changed: str, written: str, value: object) -> bool:
    """Tell whether this is another constant of the same type, with as many zeros."""
    try:
        found = ast.literal_eval(changed)
    except (SyntaxError, ValueError):
        return False
    is_like = len(written) == 1 or changed.count("0") == written.count("0")
    return is_like and type(found) is type(value) and bool(found != value)
