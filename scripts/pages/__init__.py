"""Files in, HTML out."""
