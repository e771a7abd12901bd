"""Processes that carry out tools and gradings and can be killed."""
