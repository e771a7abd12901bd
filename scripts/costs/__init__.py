"""The verbs of `tightrope cost`."""
