"""Fills the disk with many files."""

GOES_FOR = "bomb"
ENDING = "overflow or exited"
DIES = True
SOURCE = """
import os

def attack(facts):
    def fill():
        for number in range(80):
            with open(f"big{number}", "wb") as file:
                for _ in range(4):
                    file.write(bytes(2**20))
    def one():
        with open("one", "wb") as file:
            for _ in range(80):
                file.write(bytes(2**20))
    def reserve():
        with open("reserved", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2**28)
    return tried(one=one, reserve=reserve, many=fill)
"""
