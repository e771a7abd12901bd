"""Tells a run beside it something by locks on a file that both may read."""

GOES_FOR = "other runs"
SOURCE = """
import fcntl, os, struct

def attack(facts):
    shared = os.open(os.__file__, os.O_RDONLY)
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    return tried(exclusive=lambda: fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB),
                 common=lambda: fcntl.flock(shared, fcntl.LOCK_SH | fcntl.LOCK_NB),
                 others=lambda: fcntl.fcntl(shared, fcntl.F_GETLK, asked),
                 descriptors=lambda: fcntl.fcntl(shared, 36, asked))
"""
