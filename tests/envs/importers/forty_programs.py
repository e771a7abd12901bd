"""Forty small programs, each with a bug of one line and one parametrised test, as a benchmark.

What is expected is computed by the right program when the file is written. A row is the name and
the parameters, the body, the line with the bug (what is replaced, by what) and the arguments.
"""

import json
from typing import NamedTuple


class Program(NamedTuple):
    head: str
    body: str
    right: str
    wrong: str
    cases: tuple

    @property
    def name(self):
        return self.head.partition("(")[0]

    def source(self, *, is_right=True):
        body = self.body if is_right else self.body.replace(self.right, self.wrong, 1)
        lines = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
        return f'def {self.head}:\n    """{self.name.replace("_", " ").capitalize()}."""\n{lines}'

    def row(self, number):
        space = {}
        exec(self.source(), space)
        cases = [(*args, space[self.name](*args)) for args in self.cases]
        names = [*self.head.partition("(")[2].rstrip(")").split(", "), "due"]
        given = ", ".join(names[:-1])
        test = (
            "import pytest\n\n\n"
            f"@pytest.mark.parametrize({', '.join(names)!r}, {cases!r})\n"
            f"def test_{self.name}({', '.join(names)}):\n"
            f"    assert {self.name}({given}) == due\n"
        )
        return {
            "task_id": f"Forty/{number}",
            "prompt": "",
            "canonical_solution": self.source(),
            "buggy": self.source(is_right=False),
            "test": test,
            "entry_point": self.name,
        }


def of(head, body, right, wrong, *cases):
    assert body.count(right) >= 1, head
    return Program(head, body, right, wrong, cases)


def ones(*values):
    return tuple((value,) for value in values)


LISTS = ones([3, 1, 2], [5, -1, 5, 0], [7], [2, 2, 9, 4], [-3, -8], [10, 0, 10, 1])
WORDS = ones("ab ba", "Level up", "racecar", "a b c", "To be or not to be", "xyzzy")
NUMBERS = ones(0, 1, 2, 7, 12, 30, 97)
PROGRAMS = (
    of(
        "total(values)",
        "result = 0\nfor value in values:\n    result += value\nreturn result",
        "+= value",
        "+= 1",
        *LISTS,
    ),
    of(
        "largest(values)",
        "best = values[0]\nfor value in values:\n    if value > best:\n"
        "        best = value\nreturn best",
        "value > best",
        "value < best",
        *LISTS,
    ),
    of("spread(values)", "return max(values) - min(values)", "- min", "+ min", *LISTS),
    of(
        "last_index(values, value)",
        "found = -1\nfor at, each in enumerate(values):\n"
        "    if each == value:\n        found = at\nreturn found",
        "found = at",
        "return at",
        ([1, 2, 1], 1),
        ([4, 4, 4], 4),
        ([5], 5),
        ([5, 6], 7),
        ([8, 9, 8, 9], 9),
    ),
    of(
        "running_totals(values)",
        "found, so_far = [], 0\nfor value in values:\n"
        "    so_far += value\n    found.append(so_far)\nreturn found",
        "append(so_far)",
        "append(value)",
        *LISTS,
    ),
    of(
        "without_repeats(values)",
        "found = []\nfor value in values:\n    if value not in found:\n"
        "        found.append(value)\nreturn found",
        "not in",
        "in",
        *LISTS,
    ),
    of(
        "chunks(values, size)",
        "return [values[at:at + size] for at in range(0, len(values), size)]",
        "at + size",
        "at + size - 1",
        ([1, 2, 3], 2),
        ([1, 2, 3, 4], 2),
        ([5], 3),
        ([6, 7, 8], 1),
    ),
    of(
        "rotated(values, by)",
        "by %= len(values)\nreturn values[by:] + values[:by]",
        "values[by:] + values[:by]",
        "values[:by] + values[by:]",
        ([1, 2, 3], 1),
        ([1, 2, 3], 4),
        ([4, 5], 0),
        ([6, 7, 8, 9], 2),
    ),
    of(
        "is_sorted(values)",
        "return all(a <= b for a, b in zip(values, values[1:]))",
        "a <= b",
        "a < b",
        *ones([1, 1], [1, 2], [2, 1], [3, 3, 3], [], [4]),
    ),
    of(
        "second_largest(values)",
        "found = sorted(set(values))\nreturn found[-2]",
        "found[-2]",
        "found[1]",
        *ones([1, 2, 3], [4, 4, 5, 6], [9, 8], [1, 5, 5, 7, 9]),
    ),
    of(
        "count_words(text)",
        "counts = {}\nfor word in text.split():\n"
        "    counts[word] = counts.get(word, 0) + 1\nreturn counts",
        "+ 1",
        "+ 2",
        *WORDS,
    ),
    of(
        "is_palindrome(text)",
        "plain = text.lower()\nreturn plain == plain[::-1]",
        "text.lower()",
        "text",
        *ones("Level", "abc", "Noon", "a", "Ab", "Abba"),
    ),
    of(
        "initials(text)",
        "return ''.join(word[0].upper() for word in text.split())",
        "word[0]",
        "word[-1]",
        *WORDS,
    ),
    of("longest_word(text)", "return max(text.split(), key=len)", "max(", "min(", *WORDS),
    of(
        "vowels(text)",
        "return sum(letter in 'aeiou' for letter in text.lower())",
        "'aeiou'",
        "'aeio'",
        *ones("you", "up", "queue", "sky", "Under", "beau"),
    ),
    of(
        "caesar(text, by)",
        "found = ''\nfor letter in text:\n"
        "    found += chr((ord(letter) - 97 + by) % 26 + 97)\nreturn found",
        "% 26",
        "% 25",
        ("abc", 1),
        ("xyz", 3),
        ("hello", 13),
        ("zzz", 1),
        ("a", 0),
    ),
    of(
        "title_case(text)",
        "return ' '.join(word.capitalize() for word in text.split())",
        "word.capitalize()",
        "word.upper()",
        *WORDS,
    ),
    of(
        "run_lengths(text)",
        "found = []\nfor letter in text:\n"
        "    if found and found[-1][0] == letter:\n        found[-1][1] += 1\n    else:\n"
        "        found.append([letter, 1])\nreturn found",
        "found[-1][1] += 1",
        "found[0][1] += 1",
        *ones("aab", "abb", "abccc", "zz", "", "abbaa"),
    ),
    of(
        "snake_case(name)",
        "found = ''\nfor letter in name:\n    if letter.isupper() and found:\n"
        "        found += '_'\n    found += letter.lower()\nreturn found",
        "and found",
        "or found",
        *ones("ab", "aB", "CamelCase", "X", "oneTwoThree"),
    ),
    of(
        "common_prefix(one, two)",
        "at = 0\nwhile at < min(len(one), len(two)) and one[at] == two[at]"
        ":\n    at += 1\nreturn one[:at]",
        "one[:at]",
        "one[:at + 1]",
        ("abc", "abd"),
        ("x", "y"),
        ("same", "same"),
        ("lo", "lower"),
        ("lower", "lo"),
    ),
    of(
        "factorial(n)",
        "result = 1\nfor factor in range(2, n + 1):\n    result *= factor\nreturn result",
        "n + 1",
        "n",
        *NUMBERS[:6],
    ),
    of(
        "fibonacci(n)",
        "a, b = 0, 1\nfor _ in range(n):\n    a, b = b, a + b\nreturn a",
        "a + b",
        "a - b",
        *NUMBERS[:6],
    ),
    of(
        "gcd(a, b)",
        "while b:\n    a, b = b, a % b\nreturn a",
        "return a",
        "return a + b + 1",
        (12, 18),
        (7, 3),
        (0, 5),
        (9, 9),
        (100, 75),
    ),
    of(
        "is_prime(n)",
        "if n < 2:\n    return False\nreturn all(n % d for d in range(2, n))",
        "range(2, n)",
        "range(2, n // 2)",
        *ones(4, 6, 7, 9, 1, 13),
    ),
    of("digits(n)", "return [int(each) for each in str(n)]", "str(n)", "str(n)[::-1]", *NUMBERS),
    of(
        "digit_sum(n)",
        "result = 0\nwhile n:\n    result += n % 10\n    n //= 10\nreturn result",
        "n % 10",
        "n // 10",
        *NUMBERS,
    ),
    of(
        "binary(n)",
        "found = ''\nwhile n:\n    found = str(n % 2) + found\n    n //= 2\nreturn found or '0'",
        "str(n % 2) + found",
        "found + str(n % 2)",
        *NUMBERS,
    ),
    of(
        "divisors(n)",
        "return [d for d in range(1, n + 1) if n % d == 0]",
        "range(1, n + 1)",
        "range(1, n)",
        *NUMBERS[1:],
    ),
    of(
        "power(base, exponent)",
        "result = 1\nfor _ in range(exponent):\n    result *= base\nreturn result",
        "*= base",
        "+= base",
        (2, 3),
        (3, 2),
        (5, 0),
        (10, 4),
        (2, 1),
    ),
    of(
        "collatz(n)",
        "steps = 0\nwhile n > 1:\n    n = 3 * n + 1 if n % 2 else n // 2\n"
        "    steps += 1\nreturn steps",
        "n > 1",
        "n > 2",
        *NUMBERS[1:],
    ),
    of(
        "clamp(value, low, high)",
        "return min(max(value, low), high)",
        "min(max(value, low), high)",
        "max(min(value, low), high)",
        (1, 0, 5),
        (-1, 0, 5),
        (9, 0, 5),
        (5, 0, 5),
        (3, 3, 4),
    ),
    of(
        "inverted(pairs)",
        "return {value: key for key, value in pairs.items()}",
        "value: key",
        "key: value",
        *ones({"a": 1}, {"b": 2, "c": 3}, {}, {"d": "e"}),
    ),
    of(
        "merged(one, two)",
        "found = dict(one)\nfor key, value in two.items():\n"
        "    found[key] = found.get(key, 0) + value\nreturn found",
        "found.get(key, 0) + value",
        "value",
        ({"a": 1}, {"a": 2}),
        ({"b": 1}, {"c": 1}),
        ({"d": 4}, {"d": 4, "e": 5}),
        ({}, {"f": 6}),
    ),
    of(
        "grouped(words)",
        "found = {}\nfor word in words:\n"
        "    found.setdefault(len(word), []).append(word)\nreturn found",
        "len(word)",
        "word[0]",
        *ones(["a", "bb"], ["cc", "dd"], [], ["e", "f", "ggg"]),
    ),
    of(
        "flat(nested)",
        "found = []\nfor each in nested:\n    if isinstance(each, list):\n"
        "        found += flat(each)\n    else:\n        found.append(each)\nreturn found",
        "found += flat(each)",
        "found += each",
        *ones([1, [2]], [[1, [2]], 3], [], [[[[4]]]], [5, [6, [7, [8]]]]),
    ),
    of(
        "depth(nested)",
        "if not isinstance(nested, list):\n    return 0\n"
        "return 1 + max((depth(each) for each in nested), default=0)",
        "default=0",
        "default=1",
        *ones([], [[]], 5, [1, [2]], [[], [[]]]),
    ),
    of(
        "transposed(rows)",
        "return [list(column) for column in zip(*rows)]",
        "zip(*rows)",
        "rows",
        *ones([[1, 2], [3, 4]], [[5]], [[1, 2, 3]], [[6], [7]]),
    ),
    of(
        "balanced(text)",
        "depth = 0\nfor letter in text:\n"
        "    depth += (letter == '(') - (letter == ')')\n    if depth < 0:\n        return False\n"
        "return depth == 0",
        "depth == 0",
        "depth >= 0",
        *ones("()", "((", "())", "(()", "", "a(b)c", "("),
    ),
    of(
        "binary_search(values, value)",
        "low, high = 0, len(values)\nwhile low < high:\n"
        "    middle = (low + high) // 2\n    if values[middle] < value:\n        low = middle + 1\n"
        "    else:\n        high = middle\nreturn low",
        "< value",
        "<= value",
        ([1, 3, 5], 3),
        ([1, 3, 5], 4),
        ([2, 2], 2),
        ([7], 9),
        ([1, 2, 3, 4], 1),
    ),
    of(
        "edit_distance(one, two)",
        "row = list(range(len(two) + 1))\n"
        "for i, a in enumerate(one, 1):\n    above, row[0] = row[0], i\n"
        "    for j, b in enumerate(two, 1):\n"
        "        above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))\n"
        "return row[-1]",
        "above + (a != b)",
        "above + (a == b)",
        ("kitten", "sitting"),
        ("a", "b"),
        ("", "abc"),
        ("same", "same"),
        ("ab", "ba"),
    ),
)


def write(path, num_programs=40):
    """Write the first programs as JSONL."""
    path.write_text("", "utf-8")
    append(path, [program.row(number) for number, program in enumerate(PROGRAMS[:num_programs])])


def append(path, rows):
    """Write rows below those that are there."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
