"""Instances of public benchmarks, each measured anew before it becomes a task."""
