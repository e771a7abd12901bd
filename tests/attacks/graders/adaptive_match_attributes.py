"""Reads frames with patterns of a match statement, so no attribute is named."""

from tests.attacks.snippets import FORGE
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the static screen"
SOURCE = (
    BROKEN
    + r"""
import json, os
"""
    + FORGE
    + r"""
def climb(frame):
    while frame is not None:
        match frame:
            case object(f_locals=held, f_back=above):
                for value in list(held.values()):
                    if hasattr(value, "_numbers"):
                        forge(value._numbers)
                frame = above

try:
    raise LookupError
except LookupError as error:
    match error:
        case Exception(__traceback__=object(tb_frame=start)):
            climb(start)
"""
)
