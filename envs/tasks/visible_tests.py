"""Cuts a suite down to its visible tests, by span: what stays is letter for letter as it was.

Hidden tests go, and so do helpers and data of the test file that only they use, because those tell
what they check. Modules that it imports keep theirs.

Data files of the suite stay if a file that stays names them, or their folder.
"""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from fnmatch import fnmatch
from pathlib import PurePosixPath

from envs.grading.test_suite import is_collected, list_suite
from envs.mutation.spans import Source
from envs.source_text import bom_of, source_lines
from envs.syntax import (
    DEFINITIONS,
    FUNCTIONS,
    find_imports,
    first_line,
    last_line,
    parse_python,
    parse_shared,
)
from envs.tasks.store import Files

Prefixes = tuple[str, ...]
TEST: Prefixes = ("test",)
_HOOKS = frozenset(
    """
    load_tests setUpModule setup setup_function setup_module tearDownModule teardown
    teardown_function teardown_module collect_ignore collect_ignore_glob __test__
    """.split()  # noqa: SIM905
)
TestFunction = tuple[str, str]  # file and name, without class and parameters


def parse_test_id(test: str) -> TestFunction:
    """Return the file and the function of a test id, without class and parameters."""
    path, _, rest = test.partition("::")
    return path, rest.partition("[")[0].rpartition("::")[2]


def show_tests(
    files: Files,
    shown: Collection[TestFunction],
    *,
    suite: Collection[str] = (),
    prefixes: Prefixes = TEST,
) -> Files:
    """Return a tree without its suite but for a few test functions and what these need to run.

    That is: each `__init__.py` and `conftest.py` above them, and the modules of the suite that they
    import, if they are no test files themselves.

    Args:
        files: The whole tree.
        shown: The functions, each with its file.
        suite: Files of the suite; none where their names say it.
        prefixes: How names of test functions begin, or patterns of them.
    """
    names = defaultdict[str, set[str]](set)
    for path, name in shown:
        names[path].add(name)
    anywhere = {name for _, name in shown}
    suite = list_suite(files, suite)
    needed = set(names)
    while more := set(_needed(files, needed, suite)) - needed:
        needed |= more
    return {
        where: keep_tests(
            text, names=names.get(where, anywhere), whole=where not in names, prefixes=prefixes
        )
        if where in needed and where.endswith(".py") and where in suite
        else text
        for where, text in files.items()
        if where in needed or where not in suite
    }


def _needed(files: Files, needed: Collection[str], suite: Collection[str]) -> Iterator[str]:
    """Yield files of a suite without which some of its files cannot be imported."""
    texts = [files[path] for path in needed if path.endswith(".py")]
    imported = set[str]().union(*map(_imported, texts))
    for path in suite:
        folder, name = PurePosixPath(path).parent, PurePosixPath(path).name
        is_above = any(PurePosixPath(each).is_relative_to(folder) for each in needed)
        if name in ("__init__.py", "conftest.py"):
            is_used = is_above or (name == "__init__.py" and folder.name in imported)
        elif not name.endswith(".py"):
            is_used = any(name in text or _quotes(text, folder.name) for text in texts)
        else:
            is_used = not is_collected(path) and PurePosixPath(path).stem in imported
            is_used = is_used and _parses(files[path])  # and not data, or for another Python
        if is_used:
            yield path


def _quotes(text: str, folder: str) -> bool:
    """Tell whether a folder, other than one of tests, is named in a text."""
    return folder not in ("", "test", "tests") and bool(
        re.search(rf"""['"/]{re.escape(folder)}['"/]""", text)
    )


def _parses(text: str) -> bool:
    try:
        _imported(text)
    except SyntaxError:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def _imported(text: str) -> frozenset[str]:
    """Return all words of a file's import statements."""
    return frozenset(part for name in find_imports(parse_python(text)) for part in name.split("."))


def keep_tests(
    text: str, *, names: Collection[str], whole: bool = False, prefixes: Prefixes = TEST
) -> str:
    """Return a test file with those test functions and methods only whose names are in `names`.

    Imports, fixtures, hooks, test classes and whatever the rest refers to stay; a block that is
    left without a body gets `pass`. All helpers stay in a file that others import (`whole`).
    """
    lines = source_lines(text, keepends=True)
    kept: list[str | None] = list(lines)
    tree = parse_shared(text)
    for body in _bodies(tree):
        dropped = [node for node in body if _is_test(node, prefixes) and _name(node) not in names]
        is_whole = len(dropped) == len(body) and body is not tree.body
        for node in dropped:
            _cut(kept, node, lines=lines, is_last=node is body[-1])
        if dropped and is_whole:
            head = lines[first_line(dropped[0]) - 1]
            end = head[len(head.rstrip("\r\n")) :] or "\n"
            kept[first_line(dropped[0]) - 1] = " " * dropped[0].col_offset + "pass" + end
    for node in [] if whole else _unused(tree, names, prefixes):
        _cut(kept, node, lines=lines, is_last=False)
    left = [line for line in kept if line is not None]
    while len(left) < len(lines) and left and not left[-1].strip():
        left.pop()  # blank lines that stood before what was cut
    return bom_of(text) + "".join(left)


def count_cases(text: str, name: str) -> int:
    """Return how many cases of a parametrised test function can be told apart, 0 for none."""
    found = _find_cases(Source(text), parse_shared(text), name)
    return len(found[1]) if found else 0


def keep_case(text: str, name: str, number: int) -> str:
    """Return a test file in which a parametrised function has one case only, by its number.

    The list in its decorator is cut; it must be one for which `count_cases` is not 0. The case gets
    its number as its id: pytest would count it anew, and give it that of a hidden one.
    """
    source = Source(text)
    found = _find_cases(source, parse_shared(text), name)
    assert found is not None
    (start, end), cases = found
    left, right = source.span(cases[number])
    return f'{text[:start]}[{text[left:right]}], ids=["case{number}"]{text[end:]}'


def _find_cases(
    source: Source, tree: ast.Module, name: str
) -> tuple[tuple[int, int], list[ast.expr]] | None:
    """Return where the list of a function's cases stands and the cases, if they are literal.

    Only one decorator may have cases, without `ids=` that would have to be cut as well, and no
    other function of the file may have the name.
    """
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    decorators = [
        [each for each in node.decorator_list if ast.unparse(each).find("parametrize(") >= 0]
        for node in functions
        if node.name == name
    ]
    if len(decorators) != 1 or len(decorators[0]) != 1:
        return None
    call = decorators[0][0]
    if not isinstance(call, ast.Call) or len(call.args) != 2 or call.keywords:
        return None
    cases = call.args[1]
    if not isinstance(cases, ast.List | ast.Tuple) or len(cases.elts) < 2:
        return None
    if any(isinstance(case, ast.Starred) for case in cases.elts):
        return None
    return source.span(cases), cases.elts


def _bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """Yield each block that may hold tests: of the module, of classes, of if, try, with and for."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        owner = waiting.pop()
        for field in ("body", "orelse", "finalbody"):
            block = getattr(owner, field, None)
            if isinstance(block, list) and block:
                yield block
                waiting += [node for node in block if not isinstance(node, FUNCTIONS)]
        waiting += [*getattr(owner, "handlers", []), *getattr(owner, "cases", [])]


def _unused(tree: ast.Module, names: Collection[str], prefixes: Prefixes) -> list[ast.stmt]:
    """Return top-level helpers, classes and constants that nothing that stays refers to."""
    optional = {
        _name(node): node
        for node in tree.body
        if _name(node)
        and not _is_hook(_name(node))
        and not _is_test(node, prefixes)
        and not _is_test_class(node)
        and not any(_is_test(each, prefixes) and _name(each) in names for each in ast.walk(node))
        and not getattr(node, "decorator_list", [])
    }
    waiting = [node for node in tree.body if node not in optional.values()]
    used: set[str] = set()
    while waiting:
        found = _references(waiting.pop(), names, prefixes)
        waiting += [optional[name] for name in found - used if name in optional]
        used |= found
    return [node for name, node in optional.items() if name not in used]


def _references(node: ast.AST, names: Collection[str], prefixes: Prefixes) -> set[str]:
    """Return all names that a statement uses, its dropped tests left out."""
    if _is_test(node, prefixes) and _name(node) not in names:
        return set()
    found = {node.id} if isinstance(node, ast.Name) else set()
    inner = ast.iter_child_nodes(node)
    return found.union(*(_references(child, names, prefixes) for child in inner))


def _cut(kept: list[str | None], node: ast.stmt, *, lines: list[str], is_last: bool) -> None:
    """Remove a statement with its decorators and, unless it ends a block, the blanks after it."""
    start, end = first_line(node), last_line(node)
    while not is_last and end < len(lines) and not lines[end].strip():
        end += 1
    kept[start - 1 : end] = [None] * (end - start + 1)


def _is_test(node: ast.AST, prefixes: Prefixes) -> bool:
    return isinstance(node, FUNCTIONS) and any(
        fnmatch(node.name, each) if "*" in each else node.name.startswith(each)
        for each in ("test", *prefixes)
    )


def _is_hook(name: str) -> bool:
    """Tell whether pytest or unittest looks for a name in test files."""
    return name in _HOOKS or name.startswith("pytest")


def _is_test_class(node: ast.stmt) -> bool:
    """Tell whether a class may be collected: `TestX`, or one whose bases say that it is a test."""
    if not isinstance(node, ast.ClassDef):
        return False
    return any("Test" in name for name in (node.name, *map(ast.unparse, node.bases)))


def _name(node: ast.AST) -> str:
    """Return the name that a definition or a plain assignment binds, or ''."""
    if isinstance(node, DEFINITIONS):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""
