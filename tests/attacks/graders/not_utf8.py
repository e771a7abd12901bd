"""Submits text that is no text: surrogates, null bytes, a codec that runs code."""

GOES_FOR = "the source"
SOURCE = r"""
# coding: unicode_escape
x = 1\ndef total(values):\n  return sum(values) + 1\ndef first(values):\n  return 1\nY="\ud800"
"""
