"""Every path that README, CONTRIBUTING and docs/ name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOPS = "envs|rewards|train|scripts|configs|tests|benchmarks|docs"
PATH = re.compile(rf"(?:{TOPS})/[\w./-]*[\w/]|(?<=`)[a-z]\w*\.(?:py|md|yaml|json|j2|html\.j2)(?=`)")
NOT_HERE = re.compile(
    r"[A-Z]{3}|^(solves|summary|manifest|usage)\.json$|^(conftest.py|mine.yaml)$"
    r"|test_(slow|parallel).py$"
)
"""Placeholders, files that a run makes, and examples."""


def named_paths(text: str) -> list[tuple[str, str]]:
    """Return each path that a text names, with the folder named last before it on its line."""
    found = []
    for line in text.split("\n"):
        folder = ""
        for path in PATH.findall(line):
            found.append((path, folder))
            if "/" in path:
                folder = path if path.endswith("/") else path.rpartition("/")[0]
    return found


def exists(path: str, folder: str) -> bool:
    """Tell whether a path exists: from the root, or as a bare name beside the one before it."""
    return any((ROOT / place / path).exists() for place in ("", folder))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page: Path) -> None:
    paths = named_paths(page.read_text(encoding="utf-8"))
    named = [path for path, _ in paths if not NOT_HERE.search(path)]
    assert len(named) > 5 or page.name == "templates.md"
    missing = [path for path, folder in paths if path in named and not exists(path, folder)]
    assert missing == []


def test_names_of_the_architecture_are_names_of_the_code() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Za-z]\w{3,})`", text))
    sources = [path for top in TOPS.split("|")[:5] for path in (ROOT / top).rglob("*.*")]
    code = "".join(path.read_text("utf-8") for path in sources if path.suffix in (".py", ".yaml"))
    folders = {path.parent.name for path in sources}
    assert len(named) > 10
    assert [name for name in named - folders if not re.search(rf"\b{name}\b", code)] == []


def test_the_check_sees_what_it_looks_for() -> None:
    text = "`envs/tools.py`, `records.py` and `tools/x.py`; `nowhere.py`\nenvs/not_there.py"
    missing = [path for path, folder in named_paths(text) if not exists(path, folder)]
    assert missing == ["nowhere.py", "envs/not_there.py"]
