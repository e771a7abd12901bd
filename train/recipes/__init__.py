"""Warm start and GRPO, read top to bottom, and their dry runs."""
