"""Reads memory, environment and open files of the processes above it in /proc."""

GOES_FOR = "reading"
SOURCE = """
import os

def attack(facts):
    def read(pid, name):
        return open(f"/proc/{pid}/{name}", "rb").read(1)
    attempts = {}
    for number, pid in enumerate([facts["supervisor"], facts["server"], os.getppid(), 1]):
        if pid == os.getpid():
            continue
        for name in "environ mem maps cwd/secret.txt fd/0 cmdline root/etc/hosts".split():
            attempts[f"{name}{number}"] = lambda pid=pid, name=name: read(pid, name)
    return tried(**attempts)
"""
