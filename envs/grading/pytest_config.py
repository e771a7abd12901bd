"""The project's own pytest configuration, as far as runs in the sandbox follow it.

A suite runs with its configuration file and with those of the options it adds that decide which
tests there are and what they see. All others are left out: they distribute tests over processes,
measure, stop early, or change what is printed and where. The files are found and read in pytest's
own order (docs.pytest.org, "Configuration file formats").

Not covered: options in the environment (PYTEST_ADDOPTS); hooks, fixtures and ini keys of plugins
that are not loaded.
"""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import iniconfig

from envs.errors import UserError

# Where pytest looks, in its order, and in which tables.
CONFIG_FILES = {
    "pytest.toml": ("pytest",),
    ".pytest.toml": ("pytest",),
    "pytest.ini": ("pytest",),
    ".pytest.ini": ("pytest",),
    "pyproject.toml": ("tool.pytest", "tool.pytest.ini_options"),
    "tox.ini": ("pytest",),
    "setup.cfg": ("tool:pytest",),
}
_ALONE = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")  # count though empty
# Plugins that are never loaded: they start processes, measure, draw, or change the order.
UNUSED_PLUGINS = frozenset(
    """
    cov codspeed forked html instafail json_report looponfail memray metadata mypy ordering pretty
    profiling pytest_cov pytest_mypy pytest_randomly random_order randomly reportlog
    rerunfailures ruff sugar testmon xdist xdist.looponfail
    """.split()  # noqa: SIM905
)
# Of pytest's own: unneeded by a suite that does not name them in its configuration, and each costs
# time at every start or with every test.
_COSTLY_PLUGINS = """
    cacheprovider faulthandler pastebin setuponly setupplan stepwise threadexception
    unraisableexception
"""
# Needed by suites that hold the word, a fixture: logging is a tenth of the time of small tests.
_PLUGINS_BY_WORD = {"caplog": "logging", "doctest_namespace": "doctest", "record_": "junitxml"}
# Options that are followed: with a value, and without.
_WITH_VALUE = frozenset(
    """
    -W --pythonwarnings -p -o --override-ini --import-mode --doctest-glob --doctest-report
    --asyncio-mode --hypothesis-profile --timeout --timeout-method --ds --dc
    """.split()  # noqa: SIM905
)
_SELECTING = frozenset({"-k", "-m", "--deselect", "--ignore", "--ignore-glob"})  # with a value, too
_FLAGS = frozenset(
    """
    --strict-markers --strict --doctest-modules --doctest-continue-on-failure
    --doctest-ignore-import-errors --pyargs --runxfail --trio-mode --benchmark-disable
    --benchmark-skip
    """.split()  # noqa: SIM905
)
# Of a project without a configuration: pytest's own, and one more that unittest suites have.
_TEST_FILES = "test_*.py *_test.py tests.py"
_DEFAULT_FILES = ("test_*.py", "*_test.py")  # of one whose configuration does not say
_OF_PYTEST = frozenset({"terminal", "python", "main", "runner", "capture", "unittest", "fixtures"})


@dataclass(frozen=True)
class PytestConfig:
    """What a configuration asks for.

    Attributes:
        path: The file, from the project's root; None if there is none.
        addopts: The options that are followed, each with its value.
        selecting: Those of them that choose among the tests.
        left_out: Words that are not followed.
        blocked: Plugins that it blocks.
        functions: Its `python_functions`: how names of test functions begin, or patterns.
        keys: All keys that it sets.
        test_files: Its `python_files`: patterns of the names of test files.
        test_paths: Its `testpaths`: where tests are looked for, if not everywhere.
    """

    path: str | None = None
    addopts: tuple[str, ...] = ()
    selecting: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    blocked: frozenset[str] = frozenset()
    functions: tuple[str, ...] = ("test",)
    keys: tuple[str, ...] = ()
    test_files: tuple[str, ...] = tuple(_TEST_FILES.split())
    test_paths: tuple[str, ...] = ()


def read_pytest_config(files: Mapping[str, str]) -> PytestConfig:
    """Return the configuration that pytest would take from a project's root.

    Args:
        files: The project's files by path; of those below its root only conftest files matter.

    Raises:
        UserError: The file cannot be read.
    """
    for path in CONFIG_FILES:
        if path not in files:
            continue
        try:
            table = _read_table(path, files[path])
            if table is None:
                continue
            words = _split_words(table.get("addopts", ""))
            functions = _split_words(table.get("python_functions", "")) or ("test",)
            test_files = _split_words(table.get("python_files", "")) or _DEFAULT_FILES
            test_paths = _split_words(table.get("testpaths", ""))
        except (ValueError, RecursionError, iniconfig.ParseError) as error:
            raise UserError(
                "pytest's configuration cannot be read", got=f"{path}: {error}", remedy="correct it"
            ) from error
        own = "".join(text for name, text in files.items() if name.endswith("conftest.py"))
        config = PytestConfig(
            path,
            functions=functions,
            keys=tuple(table),
            test_files=test_files,
            test_paths=test_paths,
        )
        return _sort_options(config, words, own)
    return PytestConfig()


def list_run_options(
    config: PytestConfig,
    *,
    files: Mapping[str, str],
    plugins: Sequence[str],
    selects: bool = False,
) -> list[str]:
    """Return the options that pytest gets behind the configuration file.

    Args:
        config: The project's.
        files: The project's files by path.
        plugins: Names of the plugins that are installed.
        selects: Let it choose among the tests; otherwise their ids were chosen before.
    """
    options: list[str] = []
    if config.path is None:
        options += ["-o", f"python_files={_TEST_FILES}"]
    else:
        options += ["-o", "addopts=", "-o", "required_plugins=", *config.addopts]
        options += ["-W", "ignore::pytest.PytestConfigWarning"]  # keys of plugins not loaded
        options += config.selecting if selects else ()
    named = " ".join([*config.keys, *config.addopts])
    unneeded = [name for name in _COSTLY_PLUGINS.split() if name[:5] not in named]
    for word, name in _PLUGINS_BY_WORD.items():
        is_needed = name[:3] in named or any(word in text for text in files.values())
        unneeded += [] if is_needed else [name]
    options += [f"-pno:{name}" for name in unneeded]
    for name in plugins:
        if name not in UNUSED_PLUGINS | config.blocked:
            options += ["-p", name]
    return options


def name_canary(patterns: Sequence[str], word: str) -> str:
    """Return a function's name with `word` in it that `python_functions` patterns collect."""
    plain = [pattern for pattern in patterns if re.fullmatch(r"\w*\*?\w*", pattern)]
    pattern = plain[0] if plain else "test"
    return pattern.replace("*", word) if "*" in pattern else f"{pattern}_{word}"


def _read_table(path: str, text: str) -> dict[str, Any] | None:
    """Return pytest's part of a file, or None if it has none."""
    if path.endswith(".toml"):
        found = [_look_up(tomllib.loads(text), name) for name in CONFIG_FILES[path]]
        tables = [{k: v for k, v in table.items() if k != "ini_options"} for table in found]
        merged = {name: value for table in tables for name, value in table.items()}
        is_there = bool(merged) or any(found)
    else:
        sections = iniconfig.IniConfig(path, data=text).sections
        names = [name for name in CONFIG_FILES[path] if name in sections]
        merged = dict(sections[names[0]]) if names else {}
        is_there = bool(names)
    return merged if is_there or path in _ALONE else None


def _look_up(data: Any, name: str) -> dict[str, Any]:
    for part in name.split("."):
        data = data.get(part, {}) if isinstance(data, dict) else {}
    return data if isinstance(data, dict) else {}


def _split_words(value: object) -> tuple[str, ...]:
    """Return what a key holds as words: TOML has lists of them, ini files one text."""
    if isinstance(value, list | tuple):
        return tuple(map(str, value))
    return tuple(shlex.split(str(value)))


def _sort_options(config: PytestConfig, words: Sequence[str], own: str) -> PytestConfig:
    """Return the configuration with its options sorted out; `own` is the text of conftest files."""
    kept: list[str] = []
    selecting: list[str] = []
    left_out: list[str] = []
    blocked: set[str] = set()
    for option, value in _pair(words, own):
        pair = [option] if value is None else [option, value]
        if option in _SELECTING:
            selecting += pair
        elif option == "-p" and value is not None:
            name = value.removeprefix("no:")
            if value.startswith("no:"):
                blocked.add(name)
            is_unused = name in UNUSED_PLUGINS | _OF_PYTEST
            (left_out if is_unused else kept).extend(pair)
        elif option in _WITH_VALUE | _FLAGS or _adds_option(own, option):
            is_own_key = (value or "").startswith(("addopts", "required_plugins"))
            (left_out if is_own_key else kept).extend(pair)
        else:
            left_out += pair
    return replace(
        config,
        addopts=tuple(kept),
        selecting=tuple(selecting),
        left_out=tuple(left_out),
        blocked=frozenset(blocked),
    )


def _pair(words: Sequence[str], own: str) -> Iterator[tuple[str, str | None]]:
    """Yield each option with its value; words that belong to no known option come alone."""
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            takes_one = name in _WITH_VALUE | _SELECTING or (
                _adds_option(own, name) and not _adds_option(own, name, flag=True)
            )
            if equals:
                yield name, value
            elif takes_one and waiting:
                yield name, waiting.pop(0)
            else:
                yield name, None
        elif word[:2] in _WITH_VALUE | _SELECTING:
            rest = word[2:] or (waiting.pop(0) if waiting else "")
            yield word[:2], rest
        else:
            yield word, None


def _adds_option(own: str, option: str, *, flag: bool = False) -> bool:
    """Tell whether a conftest adds an option, or one without a value."""
    more = r"[^)]*store_(?:true|false|const)" if flag else ""
    return option.startswith("--") and bool(
        re.search(rf"""addoption\(\s*['"]{re.escape(option)}['"]{more}""", own)
    )
