"""Looks for the workspaces of runs that are under way beside it."""

GOES_FOR = "reading"
SOURCE = """
import glob, os

def attack(facts):
    own = os.path.realpath(os.path.dirname(os.getcwd()))
    def look(pattern):
        def is_own(place):
            return f"{own}/".startswith(f"{place}/") or place.startswith(f"{own}/")
        names = [name for name in glob.glob(pattern) if not is_own(os.path.realpath(name))]
        names = [name for name in names if os.access(name, os.R_OK) and os.listdir(name)]
        if not names:
            raise FileNotFoundError(2, "none")
    neighbour = facts["scratch"] + "/box-neighbour/calc.py"
    return tried(neighbour=lambda: print(open(neighbour).read()),
                 scratch=lambda: look(facts["scratch"] + "/*"), box=lambda: look("/box*/*"),
                 near=lambda: look(os.path.dirname(own).rstrip("/") + "/box*/*"),
                 cwd=lambda: look("/proc/[0-9]*/cwd"))
"""
