from dataclasses import replace

import pytest

from envs.errors import UserError
from envs.projects.layout import (
    find_import_path,
    is_vendored,
    list_compiled,
    list_sources,
    refuse_parts_of_pytest,
)
from envs.projects.refusal import Command, Refusal
from envs.sandbox.interpreter import find_own_interpreter
from tests.envs.projects.small_project import CALC, project


def test_where_a_file_is_imported_from():
    assert find_import_path("src/acme/calc.py", ["src"]) == "acme/calc.py"
    assert find_import_path("packages/a/src/a/x.py", ["src", "packages/a/src"]) == "a/x.py"
    assert find_import_path("calc.py", []) == "calc.py"
    assert is_vendored("calc/_vendor/six.py") and not is_vendored("calc/vendors.py")


@pytest.mark.parametrize("name", ["calc/_speed.pyx", "calc/inner/fast.c", "calc/core.so"])
def test_what_needs_a_compiler_is_found_beside_the_sources(name):
    assert list_compiled(["calc/core.py", name], ["calc/core.py"]) == [name]
    assert list_compiled(["calc/core.py", "tests/data/sample.c"], ["calc/core.py"]) == []


def test_what_pytest_imports_from_the_project_is_refused_before_it_starts(tmp_path):
    entry, _ = project(tmp_path)
    refusal = Refusal("pluggy", Command(["tightrope"]))
    members = ["src/pluggy/__init__.py", "src/pluggy/_hooks.py", "packaging/notes.py"]
    installed = find_own_interpreter()
    refuse_parts_of_pytest(refusal, entry, members, installed)  # another copy is installed
    assert not refusal
    refuse_parts_of_pytest(refusal, entry, members, replace(installed, site=(str(tmp_path),)))
    with pytest.raises(UserError, match="pytest itself runs on pluggy"):
        refusal.stop()


def test_no_bug_is_planted_beside_its_compiled_copy():
    files = {"calc/core.py": CALC, "calc/slow.py": CALC, "tests/test_core.py": ""}
    compiled = {"calc/slow.cpython-311-x86_64-linux-gnu.so": "", "calc/_speed.c": ""}
    assert list_sources(files | compiled, ["tests/test_core.py::test_it"]) == ["calc/core.py"]
