import pytest

from envs.projects.layout import (
    find_import_path,
    is_vendored,
    list_compiled,
)


def test_where_a_file_is_imported_from():
    assert find_import_path("src/acme/calc.py", ["src"]) == "acme/calc.py"
    assert find_import_path("packages/a/src/a/x.py", ["src", "packages/a/src"]) == "a/x.py"
    assert find_import_path("calc.py", []) == "calc.py"
    assert is_vendored("calc/_vendor/six.py") and not is_vendored("calc/vendors.py")


@pytest.mark.parametrize("name", ["calc/_speed.pyx", "calc/inner/fast.c", "calc/core.so"])
def test_what_needs_a_compiler_is_found_beside_the_sources(name):
    assert list_compiled(["calc/core.py", name], ["calc/core.py"]) == [name]
    assert list_compiled(["calc/core.py", "tests/data/sample.c"], ["calc/core.py"]) == []
