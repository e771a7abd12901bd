"""Little projects that are laid out, configured or written otherwise than most, and what is due.

Each is a whole project in a few files. `TASKS` are due from all that pass under the user's own
`python -m pytest`; from the others a refusal that says the one thing that is wrong.
"""

from typing import NamedTuple

from tests.envs.projects.small_project import CALC, TESTS

MORE = "".join(
    f"\n\ndef test_more_{n}():\n    assert clamp({n}, 0, 50) == {n}\n" for n in range(10)
)
SUITE = TESTS + MORE
PACKAGE = {"calc/__init__.py": "", "calc/core.py": CALC}
FLAT = PACKAGE | {"tests/test_core.py": SUITE}
TASKS = ""


class Awkward(NamedTuple):
    """A project.

    Attributes:
        files: What lies in its folder.
        due: Part of the refusal; `TASKS` for none.
        left_out: How many tests are left out; None where chance decides.
        options: What the user adds to the command.
    """

    files: dict[str, str | bytes]
    due: str = TASKS
    options: tuple[str, ...] = ()
    left_out: int | None = 0


def suite(name: str) -> str:
    """Return the tests for a project that is imported as `name`."""
    return SUITE.replace("from calc.core", f"from {name}")


def with_tests(text: str) -> dict[str, str | bytes]:
    """Return a usual project with this test file beside."""
    return FLAT | {"tests/test_more.py": text}


def indented(text: str) -> str:
    return "".join(f"    {line}" if line.strip() else line for line in text.splitlines(True))


def as_methods() -> str:
    """Return tests as methods, 24 of them."""
    cases = {
        "total": ("total([1, {n}])", "1 + {n}"),
        "clamp": ("clamp({n}, 0, 3)", "min({n}, 3)"),
        "largest": ("largest([{n}, 2])", "max({n}, 2)"),
        "evens": ("evens([{n}, 2])", "[2] if {n} % 2 else [{n}, 2]"),
    }
    return "".join(
        f"    {{async_}}def test_{name}_{n}(self):\n"
        f"        self.assertEqual({call.format(n=n)}, {value.format(n=n)})\n\n"
        for name, (call, value) in cases.items()
        for n in range(6)
    )


IMPORTS = "from calc.core import chunks, clamp, evens, largest, spread, total\n"
UNITTEST = "import unittest\n\n" + IMPORTS
CASES = as_methods().replace("{async_}", "")
ASYNC_CASES = as_methods().replace("{async_}", "async ")
ONE_EACH = (
    "import pytest\n\n"
    + IMPORTS
    + "\n".join(
        f"""
@pytest.mark.parametrize("given, due", [{", ".join(rows)}])
def test_{name}(given, due):
    assert {name}(*given) == due
"""
        for name, rows in {
            "total": ["([1, 2], 3)", "([5], 5)", "([], 0)", "([1, 1, 1], 3)"],
            "largest": ["([3, 1], 3)", "([1, 3], 3)", "([2], 2)", "([9, 4, 5], 9)"],
            "spread": ["([5, 1], 4)", "([2, 2], 0)", "([-5, -1], 4)", "([0, 7], 7)"],
            "evens": ["([1, 2], [2])", "([1], [])", "([4, 2], [4, 2])", "([], [])"],
        }.items()
    ).replace("(*given)", "(given)")
    + """
@pytest.mark.parametrize("value, due", [(-1, 0), (3, 3), (9, 5), (0, 0), (5, 5), (6, 5)])
def test_clamp(value, due):
    assert clamp(value, 0, 5) == due
"""
)

LAYOUTS = {
    "flat": Awkward(FLAT),
    "src": Awkward(
        {f"src/{path}": text for path, text in PACKAGE.items()}
        | {"tests/test_core.py": SUITE, "pytest.ini": "[pytest]\npythonpath = src\n"}
    ),
    "one module": Awkward({"calc.py": CALC, "test_calc.py": suite("calc")}),
    "namespace package": Awkward(
        {"acme/calc/core.py": CALC, "tests/test_core.py": suite("acme.calc.core")}
    ),
    "namespace package in src": Awkward(
        {
            "src/acme/calc/core.py": CALC,
            "tests/test_core.py": suite("acme.calc.core"),
            "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["src"]\n',
        }
    ),
    "lib": Awkward(
        {f"lib/{path}": text for path, text in PACKAGE.items()}
        | {"tests/test_core.py": SUITE, "tox.ini": "[pytest]\npythonpath = lib\n"}
    ),
    "packages of a monorepo": Awkward(
        {f"packages/calc/src/{path}": text for path, text in PACKAGE.items()}
        | {
            "packages/calc/tests/test_core.py": SUITE,
            "pytest.ini": "[pytest]\npythonpath = packages/calc/src\n",
        }
    ),
    "a package named tools": Awkward(
        {
            "tools/__init__.py": "",
            "tools/core.py": CALC,
            "tests/test_core.py": suite("tools.core"),
        }
    ),
    "a package named docs": Awkward(
        {"docs/__init__.py": "", "docs/core.py": CALC, "tests/test_core.py": suite("docs.core")}
    ),
    "tests inside the package": Awkward(
        PACKAGE | {"calc/tests/__init__.py": "", "calc/tests/test_core.py": SUITE}
    ),
    "tests beside the code": Awkward(PACKAGE | {"calc/test_core.py": SUITE}),
    "several packages": Awkward(
        FLAT
        | {
            "other/__init__.py": "",
            "other/words.py": "def first(text):\n    return text.split(' ')[0]\n",
            "tests/test_other.py": "from other.words import first\n\n\n"
            "def test_first():\n    assert first('a b') == 'a'\n",
        }
    ),
    "a module named tests": Awkward(
        FLAT
        | {
            "calc/core.py": CALC + "\n\nfrom calc.tests import is_even  # noqa: E402\n",
            "calc/tests.py": "def is_even(value):\n    return value % 2 == 0\n",
        }
    ),
    "all tests in tests.py": Awkward(
        PACKAGE | {"calc/tests/__init__.py": "", "calc/tests/tests.py": SUITE}
    ),
    "test_utils that is no test": Awkward(
        FLAT
        | {
            "calc/test_utils.py": "def same(value):\n    return value\n",
            "tests/test_core.py": SUITE.replace(
                "import pytest\n", "import pytest\nfrom calc.test_utils import same\n"
            ).replace("assert total([5]) == 5", "assert total([same(5)]) == 5"),
        }
    ),
}

CONFIGURED = {
    "python_files of one's own": Awkward(
        PACKAGE
        | {"checks/check_core.py": SUITE, "pytest.ini": "[pytest]\npython_files = check_*.py\n"}
    ),
    "python_functions of one's own": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": SUITE.replace("def test_", "def check_"),
            "setup.cfg": "[tool:pytest]\npython_functions = check_*\n",
        }
    ),
    "python_classes of one's own": Awkward(
        PACKAGE
        | {
            "tests/test_core.py": f"{IMPORTS}\n\nclass CheckCore:\n"
            "    def same(self, found, due):\n        assert found == due\n\n"
            + CASES.replace("self.assertEqual(", "self.same("),
            "pytest.ini": "[pytest]\npython_classes = Check*\n",
        }
    ),
    "strict markers": Awkward(
        FLAT
        | {
            "tests/test_core.py": SUITE.replace(
                "def test_total():", "@pytest.mark.fast\ndef test_total():"
            ),
            "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "-ra --strict-markers"\n'
            'markers = ["fast: under a second"]\ntestpaths = ["tests"]\n',
        }
    ),
    "warnings are errors": Awkward(
        FLAT | {"pytest.ini": "[pytest]\nfilterwarnings = error\nxfail_strict = true\n"}
    ),
    "equal basenames, importlib mode": Awkward(
        PACKAGE
        | {
            "tests/a/test_core.py": SUITE,
            "tests/b/test_core.py": SUITE,
            "pytest.ini": "[pytest]\naddopts = --import-mode=importlib\npythonpath = .\n",
        }
    ),
    "equal basenames in packages": Awkward(
        PACKAGE
        | {
            "tests/__init__.py": "",
            "tests/a/__init__.py": "",
            "tests/b/__init__.py": "",
            "tests/a/test_core.py": SUITE,
            "tests/b/test_core.py": SUITE,
        }
    ),
    "doctests of modules": Awkward(
        {
            "calc/__init__.py": "",
            "calc/core.py": CALC.replace(
                '"""Return the sum."""',
                '"""Return the sum.\n\n    >>> total([1, 2])\n    3\n    """',
            ),
            "tests/test_core.py": SUITE,
            "pytest.ini": "[pytest]\naddopts = --doctest-modules\n",
        },
        left_out=1,
    ),
    "coverage and xdist in addopts": Awkward(
        FLAT | {"pytest.ini": "[pytest]\naddopts = --cov=calc --cov-fail-under=90 -n 2\n"}
    ),
    "collect_ignore": Awkward(
        FLAT
        | {
            "conftest.py": 'collect_ignore = ["tests/test_broken.py"]\n',
            "tests/test_broken.py": "import not_there\n",
        }
    ),
    "a plugin of one's own": Awkward(
        FLAT
        | {
            "conftest.py": 'pytest_plugins = ["support.plugin"]\n',
            "support/__init__.py": "",
            "support/plugin.py": "import pytest\n\n\n@pytest.fixture\ndef five():\n    return 5\n",
            "tests/test_more.py": IMPORTS
            + "\n\ndef test_five(five):\n    assert total([five]) == 5\n",
        }
    ),
    "fixtures of every scope": Awkward(
        FLAT
        | {
            "tests/conftest.py": "import pytest\n\n"
            + "".join(
                f'\n@pytest.fixture(scope="{scope}", autouse=True)\ndef of_{scope}():\n'
                f'    yield "{scope}"\n\n'
                for scope in ("session", "package", "module", "class", "function")
            ),
        }
    ),
    "hooks that skip": Awkward(
        FLAT
        | {
            "conftest.py": "import pytest\n\n\ndef pytest_collection_modifyitems(items):\n"
            "    for item in items:\n        if item.name == 'test_total_of_one':\n"
            "            item.add_marker(pytest.mark.skip(reason='not today'))\n"
        }
    ),
    "messages of rewritten asserts": Awkward(
        with_tests(
            "import pytest\n\n\ndef test_message():\n    with pytest.raises(AssertionError) as"
            " caught:\n        assert [1] == [2]\n    assert '[1] == [2]' in str(caught.value)\n"
        )
    ),
    "the root is the working directory": Awkward(
        with_tests(
            "from pathlib import Path\n\n\ndef test_here():\n    assert Path('calc').is_dir()\n"
        )
    ),
    "an environment variable": Awkward(
        with_tests("import os\n\n\ndef test_it():\n    assert os.environ['CALC_MODE'] == 'fast'\n"),
        options=("--env", "CALC_MODE=fast"),
    ),
}
