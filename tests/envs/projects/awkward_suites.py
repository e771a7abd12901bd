"""More little projects: how their tests are written, data files, what is refused."""

from tests.envs.projects.awkward_projects import (
    ASYNC_CASES,
    CASES,
    CONFIGURED,
    FLAT,
    IMPORTS,
    LAYOUTS,
    ONE_EACH,
    PACKAGE,
    SUITE,
    UNITTEST,
    Awkward,
    indented,
    with_tests,
)
from tests.envs.projects.small_project import CALC

WRITTEN = {
    "unittest": Awkward(
        PACKAGE
        | {"tests/test_core.py": f"{UNITTEST}\n\nclass TestCore(unittest.TestCase):\n{CASES}"}
    ),
    "unittest, setUpModule": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": f"{UNITTEST}\n\nREADY = []\n\n\ndef setUpModule():\n"
            "    READY.append(1)\n\n\ndef tearDownModule():\n    READY.clear()\n\n\n"
            "class TestCore(unittest.TestCase):\n    def setUp(self):\n"
            f"        self.assertTrue(READY)\n\n{CASES}"
        }
    ),
    "unittest, coroutines": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": f"{UNITTEST}\n\n"
            f"class TestCore(unittest.IsolatedAsyncioTestCase):\n{ASYNC_CASES}"
        }
    ),
    "unittest, subtests": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": f"{UNITTEST}\n\nclass TestCore(unittest.TestCase):\n{CASES}"
            "    def test_many(self):\n        for n in range(5):\n"
            "            with self.subTest(n=n):\n"
            "                self.assertEqual(clamp(n, 0, 2), min(n, 2))\n"
        }
    ),
    "setup_module and pytestmark": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": SUITE.replace(
                "HIDDEN_DATA = [5, 1, 4]",
                'pytestmark = pytest.mark.usefixtures("tmp_path")\nHIDDEN_DATA = []\n\n\n'
                "def setup_module():\n    HIDDEN_DATA[:] = [5, 1, 4]",
            )
        }
    ),
    "pytest_generate_tests": Awkward(
        with_tests(
            IMPORTS + "\n\ndef pytest_generate_tests(metafunc):\n"
            "    if 'number' in metafunc.fixturenames:\n"
            "        metafunc.parametrize('number', range(4))\n\n\n"
            "def test_number(number):\n    assert clamp(number, 0, 2) == min(number, 2)\n"
        )
    ),
    "load_tests": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": f"{UNITTEST}\n\nclass TestCore(unittest.TestCase):\n{CASES}\n"
            "def load_tests(loader, tests, pattern):\n    return tests\n"
        }
    ),
    "tests under if": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": "import sys\nimport pytest\n"
            + IMPORTS
            + "\nif sys.version_info >= (3,):\n"
            + indented(SUITE.partition(IMPORTS)[2] or SUITE.partition("total\n")[2])
        }
    ),
    "tests under try": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": "import pytest\n"
            + IMPORTS
            + "\ntry:\n    import not_there\nexcept ImportError:\n"
            + indented(SUITE.partition("total\n")[2])
        }
    ),
    "classes in classes": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": IMPORTS
            + "\n\nclass TestOuter:\n    class TestInner:\n"
            + indented(CASES).replace("self.assertEqual(", "self.same(")
            + "        def same(self, left, right):\n            assert left == right\n"
        }
    ),
    "one parametrised test each": Awkward(PACKAGE | {"tests/test_core.py": ONE_EACH}),
    "ids with spaces and brackets": Awkward(
        with_tests(
            "import pytest\n"
            + IMPORTS
            + "\n\n@pytest.mark.parametrize('n', [1, 2, 3], ids=['a b', 'c]d', '\\u00e9::x'])\n"
            "def test_ids(n):\n    assert clamp(n, 0, 2) == min(n, 2)\n"
        )
    ),
    "equal neighbouring statements": Awkward(
        FLAT
        | {
            "calc/core.py": CALC
            + "\n\ndef twice(value):\n    value = value + 1\n    value = value + 1\n"
            "    return value\n",
            "tests/test_twice.py": "from calc.core import twice\n\n\n"
            "def test_twice():\n    assert twice(1) == 3\n\n\ndef test_twice_of_none():\n"
            "    assert twice(0) == 2\n",
        }
    ),
    "addresses and times in messages": Awkward(
        with_tests(
            IMPORTS + "import time\n\n\nclass Box:\n    def __init__(self, value):\n"
            "        self.value = value\n\n\ndef test_box():\n    box = Box(total([1, 2]))\n"
            "    assert box.value == 3, (box, id(box), time.time())\n"
        )
    ),
}

DATA = {
    "binary data": Awkward(
        FLAT
        | {
            "tests/data/blob.bin": bytes(range(256)),
            "tests/test_blob.py": "from pathlib import Path\n\n\ndef test_blob():\n"
            "    blob = Path(__file__).with_name('data') / 'blob.bin'\n"
            "    assert blob.read_bytes() == bytes(range(256))\n",
        }
    ),
    "a package's own data": Awkward(
        {
            "calc/__init__.py": "",
            "calc/core.py": CALC + "\n\nfrom importlib.resources import files  # noqa: E402\n\n"
            "LIMIT = int((files('calc') / 'limit').read_text())\n",
            "calc/limit": "7\n",
            "tests/test_core.py": SUITE,
        }
    ),
    "latin-1": Awkward(
        FLAT
        | {
            "calc/names.py": "# coding: latin-1\nNAME = 'caf\u00e9'\n".encode("latin-1"),
            "tests/words.txt": "caf\u00e9\n".encode("latin-1"),
            "tests/test_names.py": "from pathlib import Path\n\nfrom calc.names import NAME\n\n\n"
            "def test_name():\n    words = Path(__file__).with_name('words.txt')\n"
            "    assert words.read_bytes().decode('latin-1').strip() == NAME\n",
        }
    ),
    "a BOM in a test": Awkward(PACKAGE | {"tests/test_core.py": SUITE.encode("utf-8-sig")}),
    "a large data file": Awkward(
        with_tests(
            "from pathlib import Path\n\n\ndef test_blob():\n"
            "    assert len(Path(__file__).with_name('blob.bin').read_bytes()) == 3 * 2**20\n"
        )
        | {"tests/blob.bin": bytes(3 * 2**20)},
    ),
    "a compiled part that it does without": Awkward(FLAT | {"calc/_speed.c": "int x;\n"}),
    "data beside the tests folder": Awkward(
        FLAT
        | {
            "fixtures/numbers.json": "[1, 2]",
            "tests/test_numbers.py": "import json\nfrom pathlib import Path\n\n"
            + IMPORTS
            + "\n\ndef test_numbers():\n"
            "    path = Path(__file__).parents[1] / 'fixtures/numbers.json'\n"
            "    assert total(json.loads(path.read_text())) == 3\n",
        }
    ),
}

RED = "".join(f"\n\ndef test_red_{n}():\n    assert clamp({n}, 0, 5) == -1\n" for n in range(20))
LEFT_OUT = {
    "options of plugins that are not there": Awkward(
        FLAT | {"pytest.ini": "[pytest]\naddopts = --instafail --html=x.html -n auto\n"}
    ),
    "a copy that a build left": Awkward(FLAT | {"build/lib/calc/core.py": CALC}),
    "a few red ones": Awkward(
        FLAT | {"tests/test_core.py": SUITE + RED.partition("\n\n\ndef test_red_1")[0]}, left_out=1
    ),
    "one that needs a network": Awkward(
        with_tests(
            "import socket\n\n\ndef test_network():\n"
            "    socket.create_connection(('example.com', 80), timeout=2)\n"
        ),
        left_out=1,
    ),
    "one that is slow": Awkward(
        with_tests("import time\n\n\ndef test_slow():\n    time.sleep(15)\n"), left_out=1
    ),
    "flaky ones": Awkward(
        with_tests("import os\n\n\ndef test_flaky():\n    assert os.urandom(1)[0] % 2\n"),
        left_out=None,
    ),
}

REFUSED = {
    "no tests": Awkward(PACKAGE, "no tests"),
    "too few tests": Awkward(
        PACKAGE
        | {"tests/test_core.py": IMPORTS + "\n\ndef test_it():\n    assert total([1]) == 1\n"},
        "1 test",
    ),
    "mostly red": Awkward(FLAT | {"tests/test_core.py": SUITE + RED}, "20 of 43 tests fail"),
    "a dependency that is missing": Awkward(
        FLAT | {"conftest.py": "import not_there_at_all\n"}, "not_there_at_all"
    ),
    "a name to exclude that is not there": Awkward(
        FLAT, "test_core.py", ("--exclude", "tests/test_cor.py")
    ),
}

AWKWARD = LAYOUTS | CONFIGURED | WRITTEN | DATA | LEFT_OUT | REFUSED
