"""Knows what the tests ask and nothing else."""

from tests.attacks.snippets import BY_HEART

GOES_FOR = "the recorded calls"
SOURCE = BY_HEART
