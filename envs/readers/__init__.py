"""Scripted readers that rewrite nothing: the least window in which one of them repairs a task."""
