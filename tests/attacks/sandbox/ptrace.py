"""Attaches to a process above it, or reads and writes its memory."""

GOES_FOR = "signals"
SOURCE = """
import os

def attack(facts):
    attempts = {}
    part = ctypes.create_string_buffer(64)
    above = [facts["victim"], facts["supervisor"], facts["server"], os.getppid()]
    for pid in filter(None, above):
        attempts[f"attach{pid}"] = lambda pid=pid: syscall(101, 16, pid, 0, 0)
        attempts[f"seize{pid}"] = lambda pid=pid: syscall(101, 0x4206, pid, 0, 0)
        attempts[f"read{pid}"] = lambda pid=pid: syscall(310, pid, part, 1, part, 1, 0)
        attempts[f"write{pid}"] = lambda pid=pid: syscall(311, pid, part, 1, part, 1, 0)
        attempts[f"same{pid}"] = lambda pid=pid: syscall(312, pid, pid, 0, 0, 0)
        attempts[f"limits{pid}"] = lambda pid=pid: syscall(302, pid, 7, 0, part)
    return tried(**attempts)
"""
