"""Reads the tool calls in what a model wrote; imports the records only."""
