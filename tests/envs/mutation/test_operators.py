import ast
import heapq
import inspect
import io
import re
import statistics
import textwrap
import tokenize
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.mutation.operators import (
    OPERATORS,
    SYNTHETIC_OPERATORS,
    Mutation,
    apply,
    list_functions,
    list_mutations,
)
from envs.mutation.patches import apply_edits, apply_patch, make_edits, make_patch
from envs.source_text import BOM, source_lines
from envs.sources.grammar import list_combinations, write_function
from envs.syntax import parse_python

MEASURED = """cmp_negate drop_not except_narrow if_negate api_swap bool_const_flip slice_off_by_one
    int_off_by_one stmt_delete_call return_none if_drop_guard var_misuse default_change
    call_arg_swap operand_swap stmt_delete_assign arith_swap bool_swap break_continue
    cmp_boundary"""
STDLIB = (textwrap, heapq, statistics)

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
    ("return_none", "return(a, b)", ["return None"]),
    ("if_negate", "x = b if(a, b)else self", ["x = b if not ((a, b))else self"]),
    ("if_negate", "x = b if not (a or b) else self", ["x = b if (a or b) else self"]),
    ("drop_not", "x = not(a or b)", ["x = (a or b)"]),
    ("drop_not", "x = a not in b", []),
    ("drop_not", "x = b if not a else self", []),
    ("bool_const_flip", "x = self(a, True)", ["x = self(a, False)"]),
    ("bool_const_flip", "x = 1", []),
    ("cmp_boundary", "x = (a)<(b)", ["x = (a)<=(b)"]),
    ("cmp_boundary", "x = 0 <= a < b", ["x = 0 < a < b", "x = 0 <= a <= b"]),
    ("cmp_boundary", "x = a == b", []),
    ("slice_off_by_one", "x = a[b.c:]", ["x = a[b.c + 1:]"]),
    ("slice_off_by_one", "x = a[(b) + 1:b - 1]", ["x = a[(b) + 1:b]"]),
    ("slice_off_by_one", "x = a[1:-2]", []),
    ("call_arg_swap", "x = self((a), 'b', *values, b)", ["x = self(('b'), a, *values, b)"]),
    ("call_arg_swap", "x = self(a, (a))", []),
    ("call_arg_swap", """x = self('b', "b")""", []),
    ("call_arg_swap", "x = isinstance(a, b)", []),
    ("call_arg_swap", "x = self(a, k=b)", []),
    ("except_narrow", "a.b", []),
    ("var_misuse", "x = b", ["x = values"]),
    ("var_misuse", "x = self.y", []),
    ("var_misuse", "x = [c for c in a]", ["x = [c for c in values]"]),
    ("var_misuse", "x = a(b)", ["x = a(values)"]),
    ("var_misuse", "x = lambda a: a", []),
    ("var_misuse", "x = f'{a}'", []),
]


@pytest.mark.parametrize(("operator", "line", "expected"), CASES, ids=lambda value: str(value)[:30])
def test_operators_change_what_they_say_and_nothing_else(operator, line, expected):
    text = AROUND.format(line=line)
    found = [m for m in list_mutations(text, path="p.py") if m.operator == operator]
    at = text[: text.index(line)].count("\n") + 1
    here = [apply(text, m) for m in found if m.line == at]
    assert sorted(here) == sorted(AROUND.format(line=new) for new in expected)


def code(part: str) -> str:
    """Return what the end of a docstring's part shows: a span in backticks, or a block."""
    if inline := re.findall(r"`([^`]+)`", part):
        return inline[0]
    return textwrap.dedent(
        re.search(r"((?:^ {4}.*\n|^\n)+)\Z", f"{part.rstrip()}\n", re.M)[1]
    ).strip()


def inside_function(body: str) -> str:
    rest = "        pass\n" if body.endswith(":") else ""
    return f"def f(a, b, n, seen, total):\n{textwrap.indent(body, '    ')}\n{rest}"


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_docstrings_give_a_working_example(operator):
    before, after = inspect.cleandoc(operator.__doc__).split("becomes", 1)
    text, expected = inside_function(code(before)), inside_function(code(after))
    ast.parse(text)
    assert expected in [apply(text, m) for m in list_mutations(text, operators=(operator,))]


def test_operators_are_those_that_were_measured():
    assert [operator.__name__ for operator in SYNTHETIC_OPERATORS] == [
        "cmp_negate",
        "if_negate",
        "bool_swap",
        "api_swap",
        "int_off_by_one",
        "arith_swap",
        "operand_swap",
        "return_none",
    ]
    assert sorted(operator.__name__ for operator in OPERATORS) == sorted(MEASURED.split())


def mutants(operator: str, body: str) -> list[str]:
    text = f"def f(a, b):\n{textwrap.indent(body, '    ')}\n"
    found = [apply(text, m) for m in list_mutations(text) if m.operator == operator]
    return [textwrap.dedent(mutant.partition("\n")[2]).rstrip() for mutant in found]


HANDLER = "try:\n    a()\nexcept {}:\n    b = 1"
STATEMENT_CASES = {
    "only call of a block": ("stmt_delete_call", "if a: b()", ["if a: pass"]),
    "call over lines": ("stmt_delete_call", "b(\n  1,\n)\nreturn a", ["return a"]),
    "call beside a comment": ("stmt_delete_call", "b()  # why\nreturn a", []),
    "call beside a statement": ("stmt_delete_call", "b(); c = 1\nreturn a", []),
    "call in a joined line": ("stmt_delete_call", "c = 1; \\\nb()\nreturn a", []),
    "call after a docstring": ("stmt_delete_call", "'''Do.'''\nb()", ["'''Do.'''"]),
    "value of a call": ("stmt_delete_call", "c = b()\nreturn a()", []),
    "docstring": ("stmt_delete_call", "'''Do.'''\nreturn a", []),
    "assignment in else": (
        "stmt_delete_assign",
        "for b in a:\n    return\nelse:\n    b += 1",
        ["for b in a:\n    return\nelse:\n    pass"],
    ),
    "annotation only": ("stmt_delete_assign", "b: int = 1\nreturn b", []),
    "guard with else": ("if_drop_guard", "if a:\n    return\nelse:\n    b()\nreturn b", []),
    "guard alone": ("if_drop_guard", "if a:\n    raise b", []),
    "no guard": ("if_drop_guard", "if a:\n    b()\nreturn a", []),
    "elif": ("if_drop_guard", "if a:\n    b()\nelif b:\n    return\nreturn a", []),
    "guard in a loop": (
        "if_drop_guard",
        "for b in a:\n    if b: continue\n    b()",
        ["for b in a:\n    b()"],
    ),
    "arguments with comments": ("call_arg_swap", "a(b(  # one\n  1), b(  # two\n  2))", []),
    "continue": (
        "break_continue",
        "while a:\n    if b: continue\n    b()",
        ["while a:\n    if b: break\n    b()"],
    ),
    "two exceptions": (
        "except_narrow",
        HANDLER.format("(OSError, c.D) as e"),
        [HANDLER.format("OSError as e"), HANDLER.format("c.D as e")],
    ),
    "three exceptions": (
        "except_narrow",
        HANDLER.format("(A, B, C)"),
        [HANDLER.format(f"({kept})") for kept in ("A, B", "A, C", "B, C")],
    ),
    "one exception": (
        "except_narrow",
        HANDLER.format("OSError"),
        [HANDLER.format("FileNotFoundError")],
    ),
    "own exception": ("except_narrow", HANDLER.format("Own"), []),
    "any exception": ("except_narrow", HANDLER.format("").replace(" :", ":"), []),
    "defaults": (
        "default_change",
        "def g(a, b=-1, c=None, *, d=False, e=0x1): pass",
        ["def g(a, b=-1, c=None, *, d=True, e=0x1): pass"],
    ),
    "unbound variable": ("var_misuse", "c = a\nreturn c", ["c = b\nreturn c", "c = a\nreturn b"]),
    "nested scope": (
        "var_misuse",
        "def g(c):\n    return c\nreturn a",
        ["def g(c):\n    return c\nreturn b"],
    ),
}


@pytest.mark.parametrize(
    ("operator", "body", "expected"), STATEMENT_CASES.values(), ids=STATEMENT_CASES
)
def test_statement_operators_know_where_they_apply(operator, body, expected):
    assert sorted(mutants(operator, body)) == sorted(expected)


def test_a_change_that_two_operators_make_is_listed_once():
    text = "def f(a):\n    if not a:\n        return 1\n"
    found = [m for m in list_mutations(text) if m.replacement == ""]
    assert [m.operator for m in found] == ["if_negate"]


def test_sites_are_those_of_the_given_operators_in_their_order():
    text = "def f(a, b):\n    return a - b < 1\n"
    assert list(
        dict.fromkeys(m.operator for m in list_mutations(text, operators=SYNTHETIC_OPERATORS))
    ) == [
        "cmp_negate",
        "int_off_by_one",
        "arith_swap",
        "operand_swap",
        "return_none",
    ]


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
    assert {m.operator for m in list_mutations(text)} == {"return_none", "default_change"}
    assert [m.replacement for m in list_mutations(text) if m.operator == "default_change"] == ["10"]


def test_sites_name_the_function_or_method_at_the_top():
    text = (
        "class C:\n    def m(self):\n        return 1\n\ndef f():\n    def g():\n        return 2\n"
    )
    assert {(m.function, m.line) for m in list_mutations(text)} == {("C.m", 3), ("f", 7)}


def comments(text: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


@cache
def tree_of(text: str) -> str:
    return ast.dump(ast.parse(text))


def check_mutant(text: str, m: Mutation) -> None:
    """Check what every mutation promises: Python, another tree, no change outside its span."""
    mutated = apply(text, m)
    assert mutated[: m.start] == text[: m.start]
    assert mutated[m.start : m.start + len(m.replacement)] == m.replacement
    assert mutated[m.start + len(m.replacement) :] == text[m.end :]
    assert ast.dump(ast.parse(mutated)) != tree_of(text), m
    assert comments(mutated) == comments(text), m
    assert text[: m.start].count("\n") + 1 == m.line


@pytest.mark.parametrize("module", STDLIB, ids=lambda module: module.__name__)
def test_mutants_of_real_functions_are_python_and_differ_in_their_span_only(module):
    text, num_checked = inspect.getsource(module), 0
    for name, node in list_functions(ast.parse(text)):
        if "." in name or not isinstance(node, ast.ClassDef):
            alone = textwrap.dedent(ast.get_source_segment(text, node, padded=True))
            for m in list_mutations(alone)[::3]:
                check_mutant(alone, m)
                num_checked += 1
    assert num_checked > 50


def test_all_operators_have_sites_in_real_files():
    found = {m.operator for module in STDLIB for m in list_mutations(inspect.getsource(module))}
    assert found == set(MEASURED.split())


ODD = (
    "total = (  # \u00fc: a gap\n{i}{i}n\n{i}  -  # another\n{i}1 -n)",
    "if(n <  # \u4e0a\n{i}3 and not(n or  '\u00df'\n{i}in seen)):\n{i}{i}return(n, 1)\n{i}n-=1",
    "seen.append(n, '#', # kept\n{i}{i}1); n = 2",
    "while(True):\n{i}{i}if not n : break # \u00e9\n{i}{i}seen[n:len(seen) - 1], n = [], n;n+=2",
    "try: seen . keys ( )\n{i}except(KeyError,OSError,ValueError ,):n=max(\n n,1,)",
    "try: n = 1 if n else 0\n{i}except ( # which\n{i}{i}OSError, ValueError): n = n*-n ** 2",
    "x = '''\u00fc\n  #''' if(n)else f'{{n + 1!r:>{{n}}}} \u00fc' ;y = x",
    "@\\\n{i}seen.append(1, 2)\n{i}def g(\u00fc=1,/,*a: n < 2, b : int=True, **k)->n:\n{i}{i}"
    "return \u00fc<-b",
    "x = [n for n in seen if not n not in(seen)] ; del x",
    "x = not \\\n n\n{i}seen.sort(\n\n  key=lambda x, b=1: (yield) - x[1:n])",
    "if n: return\n{i}elif (n := seen(n, *seen, (1), [2,\n 3])) is  not   None: raise n\n{i}"
    "return(n)-1",
    "return seen [ n+1 : (n) ] [ ( n ) - 1: ]\\\n{i}% n // (2) if n\\\n  else(n).startswith(n, 2)",
)


@given(
    st.lists(st.sampled_from(ODD), min_size=1, max_size=3),
    st.sampled_from(["    ", "\t", " "]),
    st.booleans(),
)
def test_mutants_of_odd_layouts_are_python_and_differ_in_their_span_only(blocks, indent, has_end):
    body = "\n".join(f"{indent}{block.format(i=indent)}" for block in blocks)
    text = f"# \u00fc\ndef f(n=1, * , seen = False):\n{body}" + "\n" * has_end
    found = list_mutations(text)
    assert found
    for m in found:
        check_mutant(text, m)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(ODD), min_size=1, max_size=3),
    st.sampled_from(["\n", "\r\n", "\r", "mixed"]),
    st.sampled_from(["", BOM, "# coding: latin-1\n", "\x0c\n"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_gold_edits_give_every_byte_of_a_mutated_file_back(blocks, end, head, has_end, rng):
    body = "\n".join(f"    {block.format(i='    ')}" for block in blocks)
    body = body if "latin" not in head else body.replace("\u4e0a", "\u00e9")
    plain = (
        f"{head}x = '\x85\x0c'  # \u00a0\ndef f(n=1, * , seen = False):\n{body}" + "\n" * has_end
    )
    text = "".join(
        rng.choice(["\n", "\r\n", "\r"]) if end == "mixed" and c == "\n" else c for c in plain
    )
    text = text if end == "mixed" else text.replace("\n", end)
    found, usual = list_mutations(text), list_mutations(plain)
    assert found
    if end != "mixed":
        assert [(m.operator, m.line) for m in found] == [(m.operator, m.line) for m in usual]
    for m in found:
        broken = {"x.py": apply(text, m)}
        assert ast.dump(parse_python(broken["x.py"])) != ast.dump(parse_python(text))
        assert apply_edits(broken, make_edits(broken, {"x.py": text})) == {"x.py": text}
        assert apply_patch(broken, make_patch(broken, {"x.py": text})) == {"x.py": text}
        assert source_lines(text)[m.line - 1 :] != source_lines(broken["x.py"])[m.line - 1 :]


def test_a_deletion_that_no_edit_takes_back_is_no_site():
    text = "def f(a):\r\n    a.sort()\n    return a\r\n"
    assert "stmt_delete_call" not in {m.operator for m in list_mutations(text)}
    assert "stmt_delete_call" in {m.operator for m in list_mutations(text.replace("\r", ""))}
    last = "def f(a):\n    a = 1\n    a.sort()"
    (m,) = (m for m in list_mutations(last) if m.operator == "stmt_delete_call")
    assert apply(last, m) == "def f(a):\n    a = 1"


def test_numbers_of_thousands_of_digits_are_no_sites():
    text = f"def f(n=0x{'f' * 5000}):\n    return n + 0x{'f' * 5000}\n"
    assert {m.operator for m in list_mutations(text)} >= {"arith_swap"}
    assert not {m.operator for m in list_mutations(text)} & {"int_off_by_one", "default_change"}


@given(st.sampled_from(list_combinations()), st.sampled_from(["one", "two"]), st.data())
def test_generated_functions_keep_all_other_lines(combination, body, data):
    text = write_function("tobu", combination, body=body)
    mutation = data.draw(st.sampled_from(list_mutations(text, operators=SYNTHETIC_OPERATORS)))
    before, after = text.splitlines(), apply(text, mutation).splitlines()
    changed = [n for n, (x, y) in enumerate(zip(before, after, strict=True), 1) if x != y]
    assert changed == [mutation.line]
    assert mutation.line > 2


@pytest.mark.parametrize(
    "line", ["a.pop()\n    a.pop()", "b = 1\n    b = 1\n    b = 1", "x = not not a"]
)
def test_places_that_give_the_same_text_are_one_bug(line):
    text = AROUND.format(line=line)
    texts = [apply(text, mutation) for mutation in list_mutations(text)]
    assert len(set(texts)) == len(texts)
