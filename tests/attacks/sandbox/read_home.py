"""Lists the home folder, the cache of tasks, the repository and the temporary files."""

GOES_FOR = "reading"
SOURCE = """
import os

def attack(facts):
    def look(place):
        names = os.listdir(place)
        inside = [name for name in names
                  if not any(way.startswith(f"{place}/{name}") for way in facts["ways"])]
        if not inside or set(names) <= {"tmp", "work"}:
            raise PermissionError(13, "only the way to the interpreter, or its own")
        return inside
    return tried(**{f"p{number}": lambda place=place: look(place)
                    for number, place in enumerate(facts["places"])})
"""
