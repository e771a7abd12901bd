from dataclasses import replace

import pytest

from envs.grading.recorded_calls import find_disagreement, leave_out
from envs.grading.test_suite import run_suite
from envs.mutation.bug import Bug
from envs.mutation.operators import list_mutations
from envs.projects.record_calls import choose_sequences, make_sequences, record_calls
from envs.sandbox.fork_server import ForkServer
from tests.envs.projects.shop import SHOP, TESTS

FILES = {"shop.py": SHOP, "test_shop.py": TESTS}
SUITE = ["test_shop.py"]


@pytest.fixture(scope="module")
def server():
    with ForkServer(preload="pytest") as server:
        yield server


@pytest.fixture(scope="module")
def recording(server, tmp_path_factory):
    tests = sorted(run_suite(server, FILES, ids=None, limit_s=10).passed)
    assert len(tests) == 8
    path = tmp_path_factory.mktemp("cache") / "calls.json"
    return record_calls(FILES, tests=tests, suite=SUITE, limit_s=10, server=server, path=path)


def disagreement(server, recording, changed):
    numbers = list(recording.calls.sequences)
    tree = FILES | {"shop.py": changed}
    return find_disagreement(server, tree, calls=recording.calls, numbers=numbers, limit_s=3)


def called(recording):
    found = set()
    for sequence in recording.calls.sequences.values():
        for _, kind, target, name, *_ in sequence.operations:
            reference = target[1] if target[0] == "r" else "made"
            found.add((kind, f"{reference}.{name}".removeprefix("shop:").strip(".")))
    return found


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("call", "Cart"),
        ("call", "Item"),
        ("call", "Cart.of"),
        ("call", "Cart.tax"),
        ("get", "made.total"),
        ("set", "made.total"),
        ("get", "made.names"),
        ("call", "made.__len__"),
        ("call", "made.__getitem__"),
        ("call", "made.__iter__"),
        ("call", "made.add"),
        ("call", "made.label"),
        ("call", "made"),  # the function that adder made
        ("call", "countdown"),
        ("call", "append_all"),
        ("call", "apply"),
        ("call", "square"),
        ("call", "kind_of"),
        ("call", "wait_for"),
        ("call", "broken"),
        ("call", "ratio"),
    ],
)
def test_what_crosses_into_the_project_is_recorded(recording, kind, name):
    assert (kind, name) in called(recording)


def test_what_is_not_the_same_twice_is_left_out(recording):
    names = {name for _, name in called(recording)}
    assert "address" not in names
    assert "draw" in names  # its generator is seeded


PLACES = """
import json, os, traceback

def stack():
    return traceback.format_stack()

def library():
    return {"at": json.__file__}

def here():
    return os.path.abspath("data")

def twice(number):
    return 2 * number
"""
PLACES_TESTS = """
import places

def test_places():
    assert places.stack() and places.library() and places.here()
    assert places.twice(2) == 4
"""


def test_what_names_a_folder_of_this_machine_is_left_out(server, tmp_path):
    files = {"places.py": PLACES, "test_places.py": PLACES_TESTS}
    found = record_calls(
        files,
        tests=["test_places.py::test_places"],
        suite=["test_places.py"],
        limit_s=10,
        server=server,
        path=tmp_path / "calls.json",
    )
    done = {each.operations[0][2][1] for each in found.calls.sequences.values()}
    assert done == {"places:twice"}


def test_the_unchanged_project_agrees_with_itself_and_asks_no_test(server, recording):
    assert disagreement(server, recording, SHOP) == ""
    assert set(leave_out(FILES, recording.calls.suite)) == {"shop.py"}


CHANGES = {
    "result": ("return price * rate", "return price / rate"),
    "exception": ('raise CartError("empty")', 'raise KeyError("empty")'),
    "no exception": ('            raise CartError("empty")', "            return None"),
    "argument": ("target.extend(values)", "target = [*target, *values]"),
    "iterator": ("        start -= 1", "        start -= 2 if start > 1 else 1"),
    "property": ("sum(item.price for item", "sum(2 * item.price for item"),
    "setter": ("item.price = value / len(self._items)", "item.price = value"),
    "cached property": ("[item.name for item in self._items]", "[item for item in self._items]"),
    "type": ("return value * value", "return float(value * value)"),
    "boolean": ("return isinstance(other, Cart) and", "return isinstance(other, int) and"),
    "enumeration": ('Kind.TOOL if name == "saw"', 'Kind.TOOL if name != "saw"'),
    "named tuple": ("Line(item.name, item.price)", "Line(item.price, item.name)"),
    "closure": ("return value + step", "return value - step"),
    "coroutine": (
        "async def wait_for(value):\n    return value + 1",
        "async def wait_for(value):\n    return value",
    ),
    "public attribute": ('self.name = "cart"', 'self.name = "bag"'),
    "default": ("price: float = 1.0", "price: float = 2.0"),
    "callback": ("[function(value) for value", "[value for value"),
    "derived mapping": ("self.get(name, 0) + 1", "self.get(name, 1) + 1"),
    "decimal": ("return part / whole", "return whole / part"),
    "length": ("return len(self._items)\n\n    def __getitem__", "return 2\n\n    def __getitem__"),
    "half a surrogate pair": ('"\\udc80"', '"\\udc81"'),
    "import": ('"""Prices and carts."""', "raise OSError"),
    "end": ('"""Prices and carts."""', "import os; os._exit(0)"),
    "hang": ("    while start:\n", "    while True:\n"),
    "sleep": ("return price * rate", "import time; time.sleep(60)"),
    "forged": (
        '"""Prices and carts."""',
        'import os\nfor n in range(99):\n    os.write(3, b"[%d, []]\\n" % n)',
    ),
    "junk": ('"""Prices and carts."""', 'import os\nos.write(3, b"x\\n" * 100)'),
    "deep": (
        "return value * value",
        "found = []\n    for _ in range(9000):\n        found = [found]\n    return found",
    ),
}


@pytest.mark.parametrize(("old", "new"), CHANGES.values(), ids=CHANGES)
def test_another_behaviour_disagrees(server, recording, old, new):
    assert SHOP.count(old) == 1
    found = disagreement(server, recording, SHOP.replace(old, new))
    assert found.startswith("recorded calls, sequence ")


SAME = {
    "locals": ("for value in values]\n\n\ndef adder", "for value in list(values)]\n\n\ndef adder"),
    "message": ('CartError("empty")', 'CartError("there is nothing in it")'),
    "a further public attribute": (
        'self.name = "cart"',
        'self.name = "cart"\n        self.size = 1',
    ),
    "another private attribute": ("_items", "_held"),
    "rounding": ("return part / whole", "return part * (1 / whole) if part == 3 else part / whole"),
    "a helper": (
        "return price * rate",
        "return _times(price, rate)\n\n    @staticmethod\n    def other():\n        pass",
    ),
}


@pytest.mark.parametrize(("old", "new"), SAME.values(), ids=SAME)
def test_the_same_behaviour_otherwise_written_agrees(server, recording, old, new):
    changed = SHOP.replace(old, new)
    assert changed != SHOP
    extra = "\n\ndef _times(left, right):\n    return left * right\n"
    assert disagreement(server, recording, changed + extra) == ""


def bugs(function):
    return [Bug((one,)) for one in list_mutations(SHOP, path="shop.py") if one.function == function]


def test_a_bug_is_graded_by_what_tells_it(server, recording):
    facts = {"recording": recording, "files": FILES, "server": server}
    found = {bug: choose_sequences(bug, **facts) for bug in bugs("Cart.tax")}
    assert all(found.values())
    assert found == {bug: choose_sequences(bug, **facts) for bug in bugs("Cart.tax")}
    for bug, chosen in found.items():
        asked = {"calls": recording.calls, "numbers": chosen, "limit_s": 3}
        assert find_disagreement(server, FILES | bug.apply(FILES), **asked)
        assert find_disagreement(server, FILES, **asked) == ""


def test_a_bug_that_no_call_tells_has_none(server, recording):
    assert bugs("address")
    for bug in bugs("address"):
        assert choose_sequences(bug, recording=recording, files=FILES, server=server) == ()


def test_each_bug_of_several_is_told(server, recording):
    facts = {"recording": recording, "files": FILES, "server": server}
    tax, address = bugs("Cart.tax")[0], bugs("address")[0]
    both = Bug((*tax.mutations, *bugs("ratio")[0].mutations))
    assert choose_sequences(both, **facts)
    assert choose_sequences(Bug((*tax.mutations, *address.mutations)), **facts) == ()


def test_a_recording_is_kept_and_read_again(server, recording, tmp_path):
    tests = ["test_shop.py::test_made_otherwise"]
    path = tmp_path / "calls.json"
    facts = {"tests": tests, "suite": SUITE, "limit_s": 10, "path": path}
    first = record_calls(FILES, server=server, **facts)
    written = path.stat().st_mtime_ns
    assert record_calls(FILES, server=server, **facts) == first
    assert path.stat().st_mtime_ns == written
    other = FILES | {"shop.py": SHOP + "\nNEW = 1\n"}
    record_calls(other, server=server, **facts)
    assert path.stat().st_mtime_ns != written


def test_operations_that_share_objects_are_one_sequence():
    ref = ["r", "shop:Cart"]
    calls = [
        ("a", '[0, "call", ["r", "shop:Cart"], "", [], {}, "", ["shop.py:1"]]'),
        ("a", '[1, "call", ["r", "shop:square"], "", [3], {}, "", ["shop.py:2"]]'),
        ("a", '[2, "call", ["h", 0, []], "add", ["h"], {}, "", ["shop.py:3"]]'),
        ("b", '[3, "call", ["r", "shop:square"], "", [3], {}, "", ["shop.py:2"]]'),
    ]
    found = make_sequences(calls)
    assert found == [
        (
            ([0, "call", ref, "", [], {}, ""], [1, "call", ["h", 0, []], "add", ["h"], {}, ""]),
            frozenset({"shop.py:1", "shop.py:3"}),
        ),
        (([0, "call", ["r", "shop:square"], "", [3], {}, ""],), frozenset({"shop.py:2"})),
    ]


REGISTRY = """KNOWN = {}


def register(name):
    KNOWN[name] = len(name)
    KNOWN["any"] = 1


def size(name):
    return KNOWN.get(name, 0) + 1


def twice(number):
    return 2 * number
"""
REGISTRY_TESTS = "import reg\n" + "".join(
    f"\n\ndef test_{n}():\n    reg.register('name {n}')\n    assert reg.twice({n}) == {2 * n}\n"
    for n in range(80)
)
REGISTRY_TESTS += "\n\ndef test_size():\n    reg.register('x')\n    assert reg.size('any') == 2\n"


def test_what_leans_on_other_sequences_grades_no_task_that_has_not_those(server, tmp_path):
    files = {"reg.py": REGISTRY, "test_reg.py": REGISTRY_TESTS}
    tests = sorted(run_suite(server, files, ids=None, limit_s=10).passed)
    asked = {"tests": tests, "suite": ["test_reg.py"], "limit_s": 10, "server": server}
    recording = record_calls(files, **asked, path=tmp_path / "calls.json")
    leaning = [
        number
        for number, sequence in recording.calls.sequences.items()
        if sequence.operations[0][2:5] == [["r", "reg:size"], "", ["any"]]
    ]
    assert leaning, "eighty others set what it reads, before it in each of five orders"
    asked = {"calls": recording.calls, "numbers": leaning, "limit_s": 3}
    assert find_disagreement(server, files, **asked), "alone it gives otherwise"
    kept = {number: recording.calls.sequences[number] for number in leaning}
    few = replace(recording, calls=recording.calls.model_copy(update={"sequences": kept}))
    found = [Bug((one,)) for one in list_mutations(REGISTRY, path="reg.py")]
    for bug in found:
        assert choose_sequences(bug, recording=few, files=files, server=server) == ()
        asked["numbers"] = choose_sequences(bug, recording=recording, files=files, server=server)
        assert find_disagreement(server, files, **asked) == ""
