"""Repairs that are almost right: the original with one small change where a bug took code away.

Who repairs a bug by changing back what is there sees what to change. Who has to write anew what was
taken away (a statement, an expression, a number) may come close to the original and miss it: do
without a call, an option, an operand or a case, or get one of them wrong. If no visible test tells
such a near miss from the original, nothing shows what was there.
"""

import ast
import functools
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator

from envs.mutation.operators import Mutation, apply, list_mutations
from envs.mutation.spans import Source, Splice, walk_bodies
from envs.syntax import is_python, parse_python

MAX_NEAR_MISSES = 4  # that are tried of a bug, simpler code first: each costs a visible run
MIN_TAKEN = 3  # tokens, from which on what was taken away has to be written anew


def list_near_misses(text: str, mutation: Mutation) -> list[Mutation]:
    """Return small changes, to be made in place of `mutation`, to what it takes away.

    Args:
        text: The file without a bug.
    """
    taken = text[mutation.start : mutation.end]
    if not taken.strip().isdigit() and _count_taken(taken, mutation.replacement) < MIN_TAKEN:
        return []
    draw = random.Random(f"{mutation.path}:{mutation.start}:{mutation.end}")
    wrong = [(each.start, each.end, each.replacement) for each in _list_wrong(text)]
    found: list[Splice] = []
    for splices in (_list_simpler(text), wrong):
        inner = [each for each in splices if mutation.start <= each[0] <= each[1] <= mutation.end]
        found += draw.sample(inner, len(inner))
    misses = (
        Mutation("near_miss", mutation.path, *splice, mutation.function, mutation.line)
        for splice in dict.fromkeys(found)
    )
    broken = apply(text, mutation)
    texts = ((each, apply(text, each)) for each in misses)
    useful = (each for each, changed in texts if changed != broken and is_python(changed))
    return list(itertools.islice(useful, MAX_NEAR_MISSES))


def _count_taken(old: str, new: str) -> int:
    left = Counter(_read_tokens(old)) - Counter(_read_tokens(new))
    return left.total()


def _read_tokens(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


@functools.lru_cache(maxsize=64)
def _list_wrong(text: str) -> tuple[Mutation, ...]:
    return tuple(list_mutations(text))


@functools.lru_cache(maxsize=64)
def _list_simpler(text: str) -> tuple[Splice, ...]:
    """Return changes that leave something out: a call around a value, an operand, an option."""
    source, found = Source(text), list[Splice]()
    for node in walk_bodies(parse_python(text)):
        for part in _list_parts(node):
            left, right = source.span(part)
            assert isinstance(node, ast.expr)
            found.append((*source.span(node), f"({text[left:right]})"))
        if isinstance(node, ast.Call):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            if node.keywords and len(values) > 1:
                found.append((source.span(values[-2])[1], source.span(values[-1])[1], ""))
    return tuple(found)


def _list_parts(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the parts of an expression that may be taken for the whole."""
    if isinstance(node, ast.BoolOp):
        yield from node.values
    elif isinstance(node, ast.BinOp):
        yield node.left
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Call):
        yield from (each for each in node.args[:1] if not isinstance(each, ast.Starred))
        if isinstance(node.func, ast.Attribute):
            yield node.func.value
