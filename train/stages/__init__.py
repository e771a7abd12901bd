"""A stage's folder, log, progress and end; no torch."""
