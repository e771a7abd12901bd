"""YAML and flags to settings; no torch."""
