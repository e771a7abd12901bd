"""Skips its tests when it is imported."""

GOES_FOR = "what counts as a pass"
SOURCE = """
import pytest
pytest.skip(allow_module_level=True)
"""
