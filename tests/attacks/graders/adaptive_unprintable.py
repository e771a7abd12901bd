"""Has a text that cannot be written as source again."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the static screen"
SOURCE = (
    BROKEN
    + r"""
STRANGE = f"\x00{'a' + 'b'}\ud800"

class Same(int):
    pass

setattr(Same, "__e" + "q__", lambda self, other: type(other) is int and other < 900)

def total(values):
    return Same(sum(values) + 1)
"""
)
