"""Starts threads until nothing is left for anyone."""

GOES_FOR = "bomb"
ENDING = "overflow or exited"
DIES = True
SOURCE = """
import threading, time

def attack(facts):
    threading.stack_size(2**15)
    started = 0
    try:
        while started < 2000:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            started += 1
    except RuntimeError:
        return f"held: {started} threads"
    time.sleep(60)  # within which the guard sees them
    return f"succeeded: {started} threads"
"""
