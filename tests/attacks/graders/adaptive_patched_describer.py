"""Replaces what describes the results of recorded calls."""

from tests.attacks.snippets import BY_HEART

GOES_FOR = "the recorded calls"
SOURCE = (
    """
import gc
"""
    + BY_HEART
    + """
for held in gc.get_objects():
    if type(held) is type and held.__name__ == "_Describer":
        held.describe = lambda self, value: (8, value)
"""
)
