"""Repairs that are almost right: the original with one small change where a bug took code away.

Who repairs a bug by changing back what is there sees what to change. Who has to write anew what was
taken away (a statement, an expression, a number) may come close to the original and miss it. If no
visible test tells such a near miss from the original, nothing shows what was there.
"""

import functools
import random
import re
from collections import Counter

from envs.mutation.operators import Mutation, list_mutations

MAX_NEAR_MISSES = 3  # that are tried of a bug: each costs a run of the visible tests
MIN_TAKEN = 3  # tokens, from which on what was taken away has to be written anew


def list_near_misses(text: str, mutation: Mutation) -> list[Mutation]:
    """Return small changes, to be made in place of `mutation`, to what it takes away.

    Args:
        text: The file without a bug.
    """
    taken = text[mutation.start : mutation.end]
    if not taken.strip().isdigit() and _count_taken(taken, mutation.replacement) < MIN_TAKEN:
        return []
    found = [
        each
        for each in _list_all(text, mutation.path)
        if mutation.start <= each.start <= each.end <= mutation.end
        and (each.start, each.end, each.replacement)
        != (mutation.start, mutation.end, mutation.replacement)
    ]
    draw = random.Random(f"{mutation.path}:{mutation.start}:{mutation.end}")
    return draw.sample(found, min(MAX_NEAR_MISSES, len(found)))


def _count_taken(old: str, new: str) -> int:
    left = Counter(_read_tokens(old)) - Counter(_read_tokens(new))
    return left.total()


def _read_tokens(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


@functools.lru_cache(maxsize=64)
def _list_all(text: str, path: str) -> tuple[Mutation, ...]:
    return tuple(list_mutations(text, path=path))
