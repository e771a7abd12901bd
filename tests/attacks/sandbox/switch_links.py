"""Makes a folder a link and a folder again, so that whoever looks through it stumbles."""

GOES_FOR = "leftovers"
ENDING = "overflow or timeout"
DIES = True
WALL_S = 1.0
SOURCE = """
import os

def attack(facts):
    os.mkdir("folder")
    os.symlink("link", "link")
    while True:
        for old, new in (("folder", "kept"), ("link", "folder"), ("folder", "link"),
                         ("kept", "folder")):
            os.rename(old, new)
"""
