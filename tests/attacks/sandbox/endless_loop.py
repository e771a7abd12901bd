"""Computes for ever and lets no exception through."""

GOES_FOR = "bomb"
ENDING = "timeout"
DIES = True
WALL_S = 0.7
SOURCE = """
def attack(facts):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
"""
