"""Finds modules by a text with logging's configuration."""

from tests.attacks.snippets import FORGE_CALLS
from tests.envs.small_tasks import BROKEN

GOES_FOR = "the static screen"
SOURCE = (
    BROKEN
    + """
import logging.config

found = logging.config.BaseConfigurator({}).resolve("tropeRtseT.stroper.tsetyp_"[::-1])"""
    + FORGE_CALLS
)
