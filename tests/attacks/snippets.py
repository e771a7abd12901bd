"""Pieces of code that several attacks on the graders are made of; none runs outside the sandbox."""

# Writes a pass for every expected test, and a failure for every other one; then ends.
FORGE = r"""
def forge(nonce, ids):
    lines = []
    for test_id in ids:
        outcome = "passed" if "calc" in test_id else "failed"
        for phase in ("setup", "call", "teardown"):
            said = outcome if phase == "call" else "passed"
            lines.append(json.dumps([nonce, phase, test_id, said, ""]))
    lines.append(json.dumps([nonce, "done", "", "", ""]))
    os.write(3, "\n".join([*lines, ""]).encode())
    os._exit(0)
"""

# Looks for the request in a frame and those above it, and has all forged.
CLIMB = r"""
def climb(frame):
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if type(value) is dict and value.get("ids"):
                forge(value.get("nonce", ""), value["ids"])
        frame = frame.f_back
"""

# Writes passes for the tests of the small suite, without a secret.
FORGE_NAMED = r"""
NAMES = ["total[values0-3]", "total[values1-5]", "total[values2-0]", "first"]

def forge():
    for name in NAMES:
        for phase in ("setup", "call", "teardown"):
            line = ["", phase, f"tests/test_calc.py::test_{name}", "passed", ""]
            os.write(3, (json.dumps(line) + "\n").encode())
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
