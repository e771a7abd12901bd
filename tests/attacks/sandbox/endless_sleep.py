"""Sleeps for ever, with every signal ignored that can be."""

GOES_FOR = "bomb"
ENDING = "timeout"
DIES = True
WALL_S = 0.5
SOURCE = """
import signal, time

def attack(facts):
    for kind in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(kind, signal.SIG_IGN)
        except OSError:
            pass
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    while True:
        time.sleep(60)
"""
