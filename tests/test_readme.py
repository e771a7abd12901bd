"""The README tells the truth: its tree repeats the docstrings, its commands parse, it stays short.

`python tests/test_readme.py` rewrites the trees: the README's, where to start reading, and the
whole one in docs/files.md.
"""

import ast
import difflib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FILES = ROOT / "docs" / "files.md"
MAX_LINES = 180
BEGIN, END = "<!-- tree: python tests/test_readme.py -->\n```\n", "```\n<!-- /tree -->"
FOLDERS = {
    "envs": "what the agent may see and do; no torch",
    "envs/tasks": "where tasks come from",
    "rewards": "episode record -> numbers; pure functions, no torch, no I/O",
    "train": "everything that touches weights",
    "scripts": "one thin file per verb of `tightrope`",
    "scripts/pages": "files in, HTML out",
}
OTHERS = {
    "configs": "one YAML per experiment; accelerate/ holds accelerate's own",
    "tests": "mirrors the above",
    "benchmarks": "measurements to run, and their results",
    "docs": "longer explanations",
}


START = {
    "envs": ["records", "episode", "context", "rendering", "tools", "grading", "sandbox"],
    "envs/tasks": ["synthetic", "mutants", "validate"],
    "rewards": ["outcome", "cost", "advantages"],
    "train": ["settings", "rollouts", "generate", "segments", "grpo_trainer", "grpo", "sft"],
    "scripts": ["main", "pipeline"],
    "scripts/pages": ["report"],
}


def tree(page: Path) -> str:
    """Return the captioned tree as the page should show it."""
    lines = []
    for folder, caption in FOLDERS.items():
        lines.append(f"{folder + '/':<26}{caption}")
        for path in sorted((ROOT / folder).glob("*.py")):
            text = path.read_text(encoding="utf-8")
            if text and (page == FILES or path.stem in START[folder]):
                first = (ast.get_docstring(ast.parse(text)) or "NO DOCSTRING").splitlines()[0]
                lines.append(f"  {path.name:<23} {first}")
    for folder, caption in OTHERS.items():
        if any(path.is_file() for path in (ROOT / folder).rglob("*")):
            lines.append(f"{folder + '/':<26}{caption}")
    return "\n".join(lines) + "\n"


def shown_tree(page: Path) -> str:
    return page.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_readme_is_short() -> None:
    num_lines = len(README.read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_LINES, f"README.md has {num_lines} lines"


@pytest.mark.parametrize("page", [README, FILES], ids=lambda page: page.name)
def test_tree_repeats_the_first_line_of_every_docstring(page: Path) -> None:
    shown, true = shown_tree(page).splitlines(), tree(page).splitlines()
    text = "\n".join(difflib.unified_diff(shown, true, page.name, "the files", lineterm="", n=0))
    assert not text, f"run `python tests/test_readme.py`, which changes {page.name} so:\n{text}"


def test_where_to_start_names_files_that_exist() -> None:
    for folder, names in START.items():
        assert all((ROOT / folder / f"{name}.py").is_file() for name in names)


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_readme_would_run(line: str) -> None:
    from tightrope_cli.main import VERBS
    from train.load import load_settings

    words = shlex.split(line)
    for word in words:
        if word.startswith(("configs/", "train/", "scripts/")):
            assert (ROOT / word).is_file(), word
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if words[0] == "tightrope":
        assert words[1] in VERBS
    if "--config" in words:
        at = words.index("--config")
        dotted = [i for i, word in enumerate(words) if re.match(r"--\w+\.\w+", word)]
        overrides = [word for i in dotted for word in words[i : i + 2]]
        load_settings(ROOT / words[at + 1], overrides)


def main() -> None:
    """Rewrite the trees."""
    for page in (README, FILES):
        text = page.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        page.write_text(f"{before}{BEGIN}{tree(page)}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
