import pytest

from envs.errors import UserError
from envs.grading.pytest_config import list_run_options, name_canary, read_pytest_config

INI = "[pytest]\naddopts = -ra --strict-markers -k 'not slow'\n    --cov=calc -n 4\n"
TOML = '[tool.pytest.ini_options]\naddopts = ["-ra", "--cov", "--import-mode=importlib"]\n'
OWN = "def pytest_addoption(parser):\n    parser.addoption('--slow', action='store_true')\n"


def ini(options):
    return {"pytest.ini": f"[pytest]\naddopts = {options}\n"}


@pytest.mark.parametrize(
    ("files", "path", "kept", "selecting"),
    [
        ({}, None, "", ""),
        ({"calc/pytest.ini": INI}, None, "", ""),
        ({"pytest.ini": INI}, "pytest.ini", "--strict-markers", "-k|not slow"),
        ({"pytest.ini": "", "tox.ini": INI}, "pytest.ini", "", ""),
        ({"tox.ini": "[tox]\nenvlist = py\n", "setup.cfg": "[metadata]\n"}, None, "", ""),
        ({"tox.ini": "[pytest]\naddopts = -x --maxfail 3 -v\n"}, "tox.ini", "", ""),
        ({"setup.cfg": "[tool:pytest]\naddopts = -n2 -q\n"}, "setup.cfg", "", ""),
        ({"pyproject.toml": "[tool.a]\n", "setup.cfg": "[tool:pytest]\n"}, "setup.cfg", "", ""),
        ({"pyproject.toml": TOML}, "pyproject.toml", "--import-mode|importlib", ""),
        (ini("--cov calc --doctest-modules tests"), "pytest.ini", "--doctest-modules", ""),
        (ini("--cov-branch tests -vx -xvs -s -sx --no-summary"), "pytest.ini", "", ""),
        (ini("-m unit --deselect a::b -kf"), "pytest.ini", "", "-m|unit|--deselect|a::b|-k|f"),
        (ini("-p no:timeout -p a.b -pxdist"), "pytest.ini", "-p|no:timeout|-p|a.b", ""),
        (ini("-p no:terminal --capture=no --rootdir=x -c y --basetemp z"), "pytest.ini", "", ""),
        (ini("-W error -o addopts=-x -o a=b"), "pytest.ini", "-W|error|-o|a=b", ""),
        (ini("--instafail --only-rerun X --testmon --force-sugar -d"), "pytest.ini", "", ""),
        ({**ini("--slow --other"), "conftest.py": OWN}, "pytest.ini", "--slow", ""),
    ],
)  # fmt: skip
def test_the_file_is_pytests_and_options_that_decide_nothing_are_left_out(
    files, path, kept, selecting
) -> None:
    found = read_pytest_config(files)
    assert (found.path, "|".join(found.addopts)) == (path, kept)
    assert "|".join(found.selecting) == selecting


def test_a_blocked_plugin_is_not_loaded_and_ids_replace_a_selection() -> None:
    found = read_pytest_config(ini("-p no:timeout -m unit"))
    options = list_run_options(found, files={}, plugins=["timeout", "asyncio", "cov"])
    assert options[-2:] == ["-p", "asyncio"] and "unit" not in options
    assert "unit" in list_run_options(found, files={}, plugins=[], selects=True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool.pytest"),
        ("pytest.ini", "addopts = 1\n"),
        ("tox.ini", "[a]\n[a]\n"),
        ("pytest.ini", "[pytest]\naddopts = it's\n"),
        ("pytest.toml", f"x = {'[' * 3000}{']' * 3000}\n"),
    ],
    ids=["cut", "no section", "twice", "quote", "deep"],
)
def test_a_file_that_cannot_be_read_is_named(name, text) -> None:
    with pytest.raises(UserError, match=name):
        read_pytest_config({name: text})


def test_canaries_are_called_as_the_projects_tests_are() -> None:
    assert name_canary(["test"], "abc") == "test_abc"
    assert name_canary(["[!_]*", "check_*"], "abc") == "check_abc"
    assert name_canary(["*_test"], "abc") == "abc_test"
