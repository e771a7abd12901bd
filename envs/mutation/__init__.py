"""Operators that plant a bug in a source text, and what makes one bug of several."""
