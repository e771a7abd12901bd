"""Forks twice, leaves its session and writes when the grading is over."""

GOES_FOR = "leftovers"
SOURCE = """
import os, time

def attack(facts):
    try:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(100):
                    time.sleep(0.05)
                    for place in (facts["folder"] + "/planted", "planted"):
                        try:
                            open(place, "a").write("x")
                        except OSError:
                            pass
            os._exit(0)
    except OSError:
        return "held: no processes"
    return "held: it was started, the supervisor sees what became of it"
"""
