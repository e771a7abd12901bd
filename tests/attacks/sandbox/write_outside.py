"""Writes, empties, renames and removes a file that everyone may write."""

GOES_FOR = "writing"
SOURCE = """
import os

def attack(facts):
    secret, planted = facts["secret"], facts["folder"] + "/planted"
    return tried(append=lambda: open(secret, "a").write("x"),
                 create=lambda: open(planted, "w").write("x"),
                 empty=lambda: os.open(secret, os.O_RDONLY | os.O_TRUNC),
                 truncate=lambda: os.truncate(secret, 0),
                 remove=lambda: os.remove(secret),
                 rename=lambda: os.rename(secret, planted),
                 folder=lambda: os.mkdir(planted),
                 pipe=lambda: os.mkfifo(planted))
"""
