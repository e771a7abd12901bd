"""Returns something that equals everything but objects, from code spelt backwards."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the static screen"
SOURCE = (
    BROKEN
    + r"""
import timeit
LINES = [
    'snitliub ,clac tropmi',
    ':)tni(emaS ssalc',
    'tcejbo ton si )rehto(epyt :rehto ,fles adbmal = __qe__    ',
    'eslaF :rehto ,fles adbmal = __en__    ',
    'emaS = emaS.clac',
]
timeit.timeit(setup="\n".join(line[::-1] for line in LINES), number=1)

def total(values):
    return Same()
"""
)
