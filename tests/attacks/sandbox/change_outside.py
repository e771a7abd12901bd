"""Changes mode, times and attributes of a file that it cannot open."""

GOES_FOR = "writing"
SOURCE = """
import os

def attack(facts):
    secret = facts["secret"]
    return tried(mode=lambda: os.chmod(secret, 0), times=lambda: os.utime(secret, (1, 1)),
                 owner=lambda: os.chown(secret, os.getuid(), os.getgid()),
                 attribute=lambda: os.setxattr(secret, "user.x", b"x"))
"""
