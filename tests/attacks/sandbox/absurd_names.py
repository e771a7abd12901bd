"""Leaves files with names of all bytes, closed folders and a path too long to name."""

GOES_FOR = "leftovers"
ENDING = "overflow or exited"
DIES = True
SOURCE = r"""
import os

def attack(facts):
    names = [bytes(range(1, 47)), bytes([255] * 255), b"new\nline", b"-rf", b"*", b" ", b"\xff\xfe"]
    for name in names:
        os.close(os.open(name, os.O_CREAT, 0))
        os.mkdir(b"d" + name[:254], 0o300)
    os.mkdir("full")
    os.close(os.open("full/file", os.O_CREAT))
    top = os.getcwd()
    for _ in range(1200):
        os.mkdir("d" * 20)
        os.chdir("d" * 20)
    os.close(os.open("last", os.O_CREAT))
    os.umask(0o777)
    os.mkdir("closed")
    os.chdir(top)
    return "held: the supervisor sees what is left"
"""
