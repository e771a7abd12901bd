"""Asks the kernel not to kill it when its guard dies."""

GOES_FOR = "leftovers"
SOURCE = """
def attack(facts):
    return tried(death=lambda: syscall(157, 1, 0, 0, 0, 0))
"""
