"""Stops its own processes, so that they can neither run nor end."""

GOES_FOR = "bomb"
ENDING = "timeout"
DIES = True
WALL_S = 0.5
SOURCE = """
import os, signal, time

def attack(facts):
    try:
        if os.fork() == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
    except OSError:
        pass
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)
"""
