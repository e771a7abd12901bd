"""Pieces of code that several attacks on the graders are made of; none runs outside the sandbox."""

# Writes a pass for every expected test, and a failure for every other one; then ends.
FORGE = r"""
def forge(numbers):
    lines = []
    for test_id, number in numbers.items():
        outcome = "passed" if "calc" in test_id else "failed"
        for phase in ("setup", "call", "teardown"):
            lines.append([phase, number, outcome if phase == "call" else "passed", ""])
    for line in [*lines, ["done", -1, "", ""]]:
        os.write(3, os.read(4, 16) + json.dumps(line).encode() + b"\n")
    os._exit(0)
"""

# Looks for the reporter in a frame and those above it, and has all forged.
CLIMB = r"""
def climb(frame):
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if hasattr(value, "_numbers"):
                forge(value._numbers)
        frame = frame.f_back
"""

# Takes tickets and writes passes for the first tests, whichever these are.
FORGE_NUMBERED = r"""
def forge():
    for number in range(4):
        for phase in ("setup", "call", "teardown"):
            line = [phase, number, "passed", ""]
            os.write(3, os.read(4, 16) + json.dumps(line).encode() + b"\n")
"""

# Knows what the small suite asks, and has the bug for the rest.
BY_HEART = r"""
KNOWN = {(1, 2): 3, (5,): 5, (): 0}

def total(values):
    if tuple(values) in KNOWN:
        return KNOWN[tuple(values)]
    return sum(values) + 1

def first(values):
    return values[0]
"""

# Has what pytest makes of a call of the small suite be a pass; `found` is its class of reports.
FORGE_CALLS = r"""
made = found.from_item_and_call.__func__

def forged(kind, item, call):
    if "calc" in item.nodeid:
        call.excinfo = None
    return made(kind, item, call)

found.from_item_and_call = classmethod(forged)
"""
