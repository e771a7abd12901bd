"""Projects small enough to read, packed like sdists, whose suites notice most bugs."""

import hashlib
import io
import json
import tarfile

from envs.projects.lock_file import load_lock

LICENCE = "Permission is granted to do anything.\n"
CALC = '''"""Arithmetic on lists."""


def total(values):
    """Return the sum."""
    result = 0
    for value in values:
        result = result + value
    return result


def largest(values, default=None):
    """Return the largest value, or the default of an empty list."""
    if not values:
        return default
    best = values[0]
    for value in values:
        if value > best:
            best = value
    return best


def spread(values):
    """Return the distance between the ends."""
    return max(values) - min(values)


def chunks(values, size):
    """Cut a list into pieces."""
    return [values[at:at + size] for at in range(0, len(values), size)]


def clamp(value, low, high):
    """Move a value into an interval."""
    return min(max(value, low), high)


def evens(values):
    """Keep the even ones."""
    return [value for value in values if value % 2 == 0]
'''
TESTS = """import pytest

from calc.core import chunks, clamp, evens, largest, spread, total

HIDDEN_DATA = [5, 1, 4]


def shuffled():
    return list(HIDDEN_DATA)


def test_total():
    assert total([1, 2, 3]) == 6


def test_total_of_one():
    assert total([5]) == 5


@pytest.mark.parametrize("values", [[3, 1], [1, 3]])
def test_largest(values):
    assert largest(values) == 3


def test_largest_of_none():
    assert largest([], default=7) == 7
    assert largest([2, 9, 4]) == 9


class TestSpread:
    def test_spread(self):
        assert spread(shuffled()) == 4

    def test_spread_of_negative(self):
        assert spread([-5, -1]) == 4


def test_chunks():
    assert chunks([1, 2, 3], 2) == [[1, 2], [3]]


def test_chunks_of_one():
    assert chunks([1, 2], 1) == [[1], [2]]


def test_clamp():
    assert [clamp(n, 0, 5) for n in (-1, 3, 9)] == [0, 3, 5]


def test_clamp_to_a_point():
    assert clamp(9, 2, 2) == 2
    assert clamp(-9, 1, 3) == 1


def test_evens():
    assert evens([1, 2, 4]) == [2, 4]


def test_no_evens():
    assert evens([1, 3]) == []


@pytest.mark.skip(reason="shows that skipped tests do not count")
def test_skipped():
    raise AssertionError
"""
FILES = {
    "LICENSE": LICENCE,
    "setup.cfg": "[metadata]\nname = calc\n",
    "calc/__init__.py": "",
    "calc/core.py": CALC,
    "calc/data.txt": "not Python\n",
    "tests/test_core.py": TESTS,
}

WORDS = '''"""Words of a text."""


def initials(text):
    """Return the first letters, in capitals."""
    return "".join(word[0].upper() for word in text.split())


def longest(text):
    """Return the length of the longest word."""
    return max(len(word) for word in text.split())
'''
TESTS_OF_WORDS = """from words.core import initials, longest


def test_initials():
    assert initials("ada lovelace") == "AL"


def test_initials_of_one():
    assert initials("ada") == "A"


def test_longest():
    assert longest("a bbb cc") == 3


def test_longest_of_one():
    assert longest("aa") == 2
"""
POINTS = '''"""Points of a plane."""


def distance(one, two):
    """Return the distance along the axes."""
    return abs(one[0] - two[0]) + abs(one[1] - two[1])


class Box:
    """A box between two corners."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def area(self):
        """Return width times height."""
        return (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
'''
TESTS_OF_POINTS = """from points.core import Box, distance

from tests import SuiteOfAreas


def test_distance():
    assert distance((0, 0), (1, 2)) == 3


def test_distance_of_negative():
    assert distance((-1, -2), (3, 2)) == 8


class TestOne(SuiteOfAreas):
    def box(self):
        return Box((1, 2), (4, 6)), 12
"""
MIXIN_OF_POINTS = """def reversed_corners(box):
    return type(box)(box.high, box.low)


class SuiteOfAreas:
    def test_area(self):
        box, area = self.box()
        assert box.area() == area

    def test_area_of_reversed(self):
        box, area = self.box()
        assert reversed_corners(box).area() == area
"""


def pack(folder, files=FILES, *, name="calc", **fields):
    """Write an sdist into the cache in `folder` and a lock file beside it; return (lock, cache)."""
    cache = folder / "cache"
    path = cache / "sdists" / f"{name}-1.0.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for where, text in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{where}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    entry = {
        "version": "1.0",
        "split": "train",
        "sdist": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "MIT-0",
        "licence_file": "LICENSE",
        "licence_sha256": hashlib.sha256(LICENCE.encode()).hexdigest(),
        "roots": [name, "tests"],
        "mutated": [f"{name}/core.py"],
    }
    lock = folder / "projects.lock.json"
    entries = json.loads(lock.read_text("utf-8")) if lock.exists() else {}
    lock.write_text(json.dumps(entries | {name: entry | fields}), "utf-8")
    return lock, cache


def pack_three(folder):
    """Write one project for each split into one lock file; return (lock, cache)."""
    pack(folder)
    others = [
        ("words", "dev", WORDS, {"tests/test_words.py": TESTS_OF_WORDS}),
        (
            "points",
            "test",
            POINTS,
            {"tests/__init__.py": MIXIN_OF_POINTS, "tests/test_points.py": TESTS_OF_POINTS},
        ),
    ]
    for name, split, text, tests in others:
        files = {"LICENSE": LICENCE, f"{name}/__init__.py": "", f"{name}/core.py": text}
        lock, cache = pack(folder, files | tests, name=name, split=split)
    return lock, cache


def project(folder, files=FILES, **fields):
    """Return the packed project as read from its lock file, and the cache."""
    lock, cache = pack(folder, files, **fields)
    (only,) = load_lock(lock)
    return only, cache
