"""What a rewrite is worth: saved episodes played on from a turn, with one there and without."""
