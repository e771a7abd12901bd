"""The verbs of `tightrope tasks`."""
