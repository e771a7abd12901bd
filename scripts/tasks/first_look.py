"""What a build says of a folder before anything runs: what it read, and what it takes it for.

    read     attrs: 84 files (61 of Python), 1.2 MiB; skipped: hidden .git, .github; built build
    tests    22 files by name (test_*.py, *_test.py); pytest has the last word
    mutated  of the 17 other Python files those in which tests execute enough; not: vendored a/_six

By name only: which tests there are, and what they execute, the suite says when it ran.
"""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import PurePosixPath

from envs.grading.pytest_config import CONFIG_FILES, read_pytest_config
from envs.projects.layout import is_vendored, list_compiled
from envs.projects.source_files import FolderContent
from envs.source_text import SOURCE_SUFFIX, SourceError, decode_source
from envs.tasks.suite_files import find_suite

_NUM_NAMED = 4  # of a kind
_NUM_KIB = 1024


def describe_folder(name: str, content: FolderContent, *, exclude: Collection[str]) -> list[str]:
    """Return three lines: what was read and skipped, what is taken for tests, what may be changed.

    Raises:
        UserError: pytest's configuration cannot be read.
    """
    members = content.members
    texts, unreadable = _decode(members)
    config = read_pytest_config(
        {path: text for path, text in texts.items() if path in CONFIG_FILES}
    )
    left_out = set(exclude) & texts.keys()
    named = [
        path
        for path in texts.keys() - left_out
        if path.endswith(SOURCE_SUFFIX) and _is_test(path, config.test_files, config.test_paths)
    ]
    suite = find_suite(texts, [f"{path}::test" for path in named])
    python = [path for path in texts if path.endswith(SOURCE_SUFFIX)]
    vendored = [path for path in python if is_vendored(path)]
    others = [path for path in python if path not in {*suite, *vendored, *left_out}]
    kib = sum(map(len, members.values())) / _NUM_KIB
    size = f"{kib / _NUM_KIB:.1f} MiB" if kib >= _NUM_KIB else f"{max(1, round(kib))} KiB"
    skipped: dict[str, list[str]] = {"no Python for its encoding": unreadable} if unreadable else {}
    for path, kind in content.skipped.items():
        skipped.setdefault(kind, []).append(path)
    where = f" below {' '.join(config.test_paths)}" if config.test_paths else ""
    support = f" and {len(suite) - len(named)} beside them" if len(suite) > len(named) else ""
    return [
        f"read     {name}: {name_count(len(members), 'file')} ({len(python)} of Python), {size}"
        + _name_kinds("skipped", skipped),
        f"tests    {name_count(len(named), 'file')} by name ({', '.join(config.test_files)}"
        f"{where}){support}; pytest has the last word"
        + _name_kinds("left out", {"by --exclude": sorted(exclude)} if exclude else {}),
        f"mutated  of the {len(others)} other Python files those in which tests execute enough"
        + _name_kinds("not", {"vendored": vendored, "compiled": list_compiled(members, others)}),
    ]


def name_count(count: int, noun: str) -> str:
    """Return '1 file' or '3 files'."""
    return f"{count} {noun}{'s' * (count != 1)}"


def _decode(members: Mapping[str, bytes]) -> tuple[dict[str, str], list[str]]:
    """Return the texts of Python and configuration files, and the Python files that are none."""
    texts, unreadable = dict[str, str](), list[str]()
    for path, data in members.items():
        if path.endswith(SOURCE_SUFFIX):
            try:
                texts[path] = decode_source(data)
            except SourceError:
                unreadable.append(path)
        elif path in CONFIG_FILES:
            texts[path] = data.decode("utf-8", "replace")
    return texts, unreadable


def _is_test(path: str, patterns: Sequence[str], folders: Sequence[str]) -> bool:
    """Tell whether pytest would look for tests in a file, by its name."""
    inside = [folder for folder in folders if PurePosixPath(path).is_relative_to(folder)]
    name = path.rpartition("/")[2]
    matches = any(fnmatch(path if "/" in pattern else name, pattern) for pattern in patterns)
    return matches and bool(inside or not folders)


def _name_kinds(what: str, kinds: Mapping[str, Sequence[str]]) -> str:
    """Return '; WHAT: KIND first, second and 3 more; KIND ...', or '' if there is nothing."""
    parts = []
    for kind, paths in kinds.items():
        more = f" and {len(paths) - _NUM_NAMED} more" if len(paths) > _NUM_NAMED else ""
        parts += [f"{kind} {', '.join(paths[:_NUM_NAMED])}{more}"] if paths else []
    return f"; {what}: {'; '.join(parts)}" if parts else ""
