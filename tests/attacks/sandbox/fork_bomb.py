"""Starts processes until nothing is left for anyone."""

GOES_FOR = "bomb"
SOURCE = """
import os, resource, time

def attack(facts):
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    try:
        first = os.fork()
    except OSError:
        return "held: no processes"
    if first == 0:
        os._exit(0)
    if limit > 64:
        return "succeeded: no limit, so the bomb was not set off"
    started = 0
    try:
        while started < 4 * limit:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            started += 1
    except OSError:
        return f"held: {started} processes"
    return f"succeeded: {started} processes"
"""
