"""Fills the disk with empty files and folders."""

GOES_FOR = "bomb"
ENDING = "overflow or exited"
DIES = True
SOURCE = """
import os

def attack(facts):
    def fill():
        for number in range(30_000):
            os.close(os.open(str(number), os.O_CREAT))
    return tried(files=fill)
"""
