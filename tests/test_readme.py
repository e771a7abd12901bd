"""The README tells the truth: its tree repeats the docstrings, its commands parse, it stays short.

`python tests/test_readme.py` rewrites the tree: one line for each room, the first of the docstring
of its `__init__.py`.
"""

import ast
import difflib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
MAX_LINES = 180
BEGIN, END = "<!-- tree: python tests/test_readme.py -->\n```\n", "```\n<!-- /tree -->"
OTHERS = {
    "configs": "One YAML per experiment; accelerate/ holds accelerate's own.",
    "tests": "Mirrors the above.",
    "benchmarks": "Measurements to run, and their results.",
    "docs": "Longer explanations; architecture.md first.",
}


def tree() -> str:
    """Return the captioned tree as the README should show it."""
    rooms = {}
    for top in ("envs", "rewards", "train", "scripts"):
        for path in sorted((ROOT / top).rglob("__init__.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            folder = path.parent.relative_to(ROOT)
            rooms[folder] = (docstring or "NO DOCSTRING").splitlines()[0]
    rooms |= {Path(folder): caption for folder, caption in OTHERS.items()}
    names = {folder: "  " * (len(folder.parts) - 1) + folder.name + "/" for folder in rooms}
    return "".join(f"{names[folder]:<16}{caption}\n" for folder, caption in rooms.items())


def shown_tree() -> str:
    return README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_readme_is_short() -> None:
    num_lines = len(README.read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_LINES, f"README.md has {num_lines} lines"


def test_tree_repeats_the_first_line_of_every_rooms_docstring() -> None:
    shown, true = shown_tree().splitlines(), tree().splitlines()
    text = "\n".join(difflib.unified_diff(shown, true, "README", "the rooms", lineterm="", n=0))
    assert not text, f"run `python tests/test_readme.py`, which changes README.md so:\n{text}"


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_readme_would_run(line: str) -> None:
    from tightrope_cli.main import VERBS
    from train.config.load import load_settings

    words = shlex.split(line)
    for word in words:
        if word.startswith(("configs/", "train/", "scripts/")):
            assert (ROOT / word).is_file(), word
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if words[0] == "tightrope":
        assert {words[1], " ".join(words[1:3])} & VERBS.keys()
    if "--config" in words:
        at = words.index("--config")
        dotted = [i for i, word in enumerate(words) if re.match(r"--\w+\.\w+", word)]
        overrides = [word for i in dotted for word in words[i : i + 2]]
        load_settings(ROOT / words[at + 1], overrides)


def main() -> None:
    """Rewrite the tree."""
    text = README.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}{tree()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
