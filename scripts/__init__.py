"""One thin file per verb of `tightrope`."""
