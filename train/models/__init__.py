"""Weights, tokenizers, chat templates and processes."""
