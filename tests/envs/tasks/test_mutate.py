import ast
import inspect
import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

import envs.tasks.mutate as mutate
import envs.tasks.synthetic as synthetic
from envs.tasks.families import combinations, function_source
from envs.tasks.mutate import OPERATORS, apply, sites

AROUND = '''"""A file whose every line matters."""
import os  # caf\u00e9

LIMIT = 3 + 4


def f(self, a, b=2, values=()):
    """min of a and 1 < 2."""
    {line}  # \u00fc: keep me
    return {{"x": a}}
'''

CASES = [
    ("cmp_negate", "x = a < b", ["x = a >= b"]),
    ("cmp_negate", "x = (a) not  in (b)", ["x = (a) in (b)"]),
    ("cmp_negate", "x = a is not b", ["x = a is b"]),
    ("cmp_negate", "x = 0 < a < b", []),
    ("if_negate", "x = b if a else self", ["x = b if not a else self"]),
    ("if_negate", "x = b if not a else self", ["x = b if a else self"]),
    ("if_negate", "x = b if a and b else self", ["x = b if not (a and b) else self"]),
    ("if_negate", "x = b if a == b else self", []),
    ("bool_swap", "x = a and b", ["x = a or b"]),
    ("bool_swap", "x = (a or b) or self", ["x = (a or b) and self", "x = (a and b) or self"]),
    ("api_swap", "x = min(a, b)", ["x = max(a, b)"]),
    ("api_swap", "x = self.keys()", ["x = self.values()"]),
    ("api_swap", "x = minimum(a)", []),
    ("int_off_by_one", "x = a[1]", ["x = a[0]", "x = a[2]"]),
    ("int_off_by_one", "x = a[0]", ["x = a[1]"]),
    ("int_off_by_one", "x = a[0x1f]", []),
    ("int_off_by_one", "x = True", []),
    ("arith_swap", "x = a + b", ["x = a - b"]),
    ("arith_swap", "x = '\u00e4' + b", []),
    ("arith_swap", "a -= b", ["a += b"]),
    ("arith_swap", "x = (a) // (b)", ["x = (a) % (b)"]),
    ("operand_swap", "x = a - b", ["x = b - a"]),
    ("operand_swap", "x = (a + b) - self.y", ["x = self.y - (a + b)"]),
    ("operand_swap", "x = a - b - self", ["x = b - a - self"]),
    ("operand_swap", "x = a + b", []),
    ("return_none", "return a", ["return None"]),
    ("return_none", "return None", []),
]


@pytest.mark.parametrize(("operator", "line", "expected"), CASES, ids=lambda value: str(value)[:30])
def test_operators_change_what_they_say_and_nothing_else(operator, line, expected):
    text = AROUND.format(line=line)
    found = [m for m in sites(text, path="p.py") if m.operator == operator]
    at = text[: text.index(line)].count("\n") + 1
    here = [apply(text, m) for m in found if m.line == at]
    assert sorted(here) == sorted(AROUND.format(line=new) for new in expected)


def test_docstrings_give_a_working_example():
    for operator in OPERATORS:
        before, after = re.findall(r"`([^`]+)`", operator.__doc__)[:2]
        indent = "        pass" if before.endswith(":") else ""
        text = f"def f(a, b, n, seen, total):\n    {before}\n{indent}\n"
        mended = [apply(text, m) for m in sites(text) if m.operator == operator.__name__]
        assert f"def f(a, b, n, seen, total):\n    {after}\n{indent}\n" in mended, operator.__name__


def test_there_are_eight_operators():
    assert len({operator.__name__ for operator in OPERATORS}) == 8


def test_code_outside_functions_decorators_and_signatures_is_left_alone():
    text = textwrap.dedent(
        """
        X = 1 + 2

        @register(3 + 4)
        def f(a: "1 < 2" = 5 + 6) -> 7:
            @cached(8)
            def g(b=9):
                return b
            value: int = a
            return f"{a + 1}"
        """
    )
    assert {m.operator for m in sites(text)} == {"return_none"}


def test_sites_name_the_function_or_method_at_the_top():
    text = (
        "class C:\n    def m(self):\n        return 1\n\ndef f():\n    def g():\n        return 2\n"
    )
    assert {(m.function, m.line) for m in sites(text)} == {("C.m", 3), ("f", 7)}


@pytest.mark.parametrize("module", [mutate, synthetic, textwrap])
def test_every_mutant_of_real_files_parses_and_differs_in_its_span_only(module):
    text = inspect.getsource(module)
    found = sites(text)
    assert len(found) > 20
    for number, m in enumerate(found):
        mutated = apply(text, m)
        assert mutated != text
        assert mutated.startswith(text[: m.start])
        assert mutated.endswith(text[m.end :])
        assert len(mutated) == len(text) - (m.end - m.start) + len(m.replacement)
        assert text[: m.start].count("\n") + 1 == m.line
        if number % 5 == 0:
            ast.parse(mutated)


@given(st.sampled_from(combinations()), st.sampled_from(["one", "two"]), st.data())
def test_generated_functions_keep_all_other_lines(combination, body, data):
    text = function_source("tobu", combination, body=body)
    mutation = data.draw(st.sampled_from(sites(text)))
    before, after = text.splitlines(), apply(text, mutation).splitlines()
    changed = [n for n, (x, y) in enumerate(zip(before, after, strict=True), 1) if x != y]
    assert changed == [mutation.line]
    assert mutation.line > 2
