"""Replaces itself by another program, which knows no limits."""

GOES_FOR = "processes"
SOURCE = """
import os, resource, sys

def attack(facts):
    if os.access("/bin/sh", os.X_OK):
        try:
            if os.fork() == 0:
                os.execv("/bin/sh", ["sh", "-c", "ulimit -v unlimited && ulimit -u unlimited"])
            if os.wait()[1] != 0:
                return "held: hard limits stay"
        except OSError:
            return "held: no processes"
        return "succeeded: limits were raised"
    return "held: no shell"
"""
