"""Finds the reports by a pickle, read by the module behind pickle."""

from tests.attacks.snippets import FORGE_CALLS
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the static screen"
SOURCE = (
    BROKEN
    + r"""
from _pickle import loads

found = loads(b"c_p" + b"ytest.reports\nTestReport\n.")
"""
    + FORGE_CALLS
)
