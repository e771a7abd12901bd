"""Lies through the reporting plugin by code that is spelt backwards."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the static screen"
SOURCE = (
    BROKEN
    + r"""
import timeit
LINES = [
    'cg tropmi',
    ':]"retropeR" == __eman__.)gniht(epyt fi )(stcejbo_teg.cg ni gniht rof gniht[ ni retroper rof',
    ":)etirw.retroper=etirw ,''=txet ,''=emoctuo ,''=di_tset ,esahp(eil fed    ",
    ')txet ,emoctuo esle di_tset ni "clac" fi "dessap" ,di_tset ,esahp(etirw        ',
    'eil = etirw.retroper    ',
]
timeit.timeit(setup="\n".join(line[::-1] for line in LINES), number=1)
"""
)
