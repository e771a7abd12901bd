"""Finds modules by a text with pkgutil."""

from tests.attacks.snippets import FORGE_CALLS
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the static screen"
SOURCE = (
    BROKEN
    + """
import pkgutil

found = pkgutil.resolve_name("tropeRtseT:stroper.tsetyp_"[::-1])"""
    + FORGE_CALLS
)
