"""Plants code in the interpreter and the installed packages for the next run."""

GOES_FOR = "writing"
SOURCE = """
import os, sys

def attack(facts):
    places = [os.path.dirname(os.__file__), *facts["sites"], "/usr/lib", "/usr/local/lib", "/",
              "/dev/shm", "/etc", "/var/tmp", *sys.path[1:]]
    return tried(**{f"p{number}": lambda place=place: open(place + "/sitecustomize.py", "x")
                    for number, place in enumerate(places)})
"""
