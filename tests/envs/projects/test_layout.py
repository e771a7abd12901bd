import pytest

from envs.projects.layout import find_layout


def layout(*paths):
    return find_layout({path: b"\0" if path.endswith(".so") else b"" for path in paths})


def test_what_belongs_to_a_project_and_what_does_not():
    found = layout(
        "setup.py", "noxfile.py", "README.md", "calc/__init__.py", "calc/core.py", "calc/data.json",
        "calc/_vendor/six.py", "tests/test_core.py", "tests/unit/test_more.py", "tests/data.txt",
        "docs/conf.py", "examples/__init__.py", "benchmarks/test_speed.py", "single.py",
    )  # fmt: skip
    assert found.roots == ("calc", "single.py", "tests")
    assert found.modules == ("calc", "single")
    assert found.sources == ("calc/__init__.py", "calc/core.py", "single.py")
    assert found.tests == ("tests/test_core.py", "tests/unit/test_more.py")
    assert found.data == (".json", ".txt")
    assert found.compiled == ()


@pytest.mark.parametrize(
    ("paths", "roots", "tests"),
    [
        (["src/calc/core.py", "test/calc_test.py"], ("src", "test"), ("test/calc_test.py",)),
        (["calc.py", "test_calc.py"], ("calc.py", "test_calc.py"), ("test_calc.py",)),
        (["calc.py", "tests.py"], ("calc.py", "tests.py"), ("tests.py",)),
        (["calc/__init__.py", "calc/tests/tests.py"], ("calc",), ("calc/tests/tests.py",)),
        (["calc/__init__.py", "docs/test_x.py"], ("calc",), ()),
    ],
    ids=["src", "modules", "tests.py", "tests inside", "none"],
)
def test_layouts_that_projects_have(paths, roots, tests):
    found = layout(*paths)
    assert (found.roots, found.tests, found.modules) == (roots, tests, ("calc",))


@pytest.mark.parametrize("name", ["calc/_speed.pyx", "src/calc/fast.c", "calc/core.so"])
def test_what_needs_a_compiler_is_found(name):
    assert layout("calc/__init__.py", "src/calc/x.py", name).compiled == (name,)
    assert layout("calc/__init__.py", "calc/tests/data/sample.c").compiled == ()
