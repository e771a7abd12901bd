"""Files that only other programs read: the Dockerfile, what it leaves out, and pre-commit hooks."""

import fnmatch
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "docs" / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def copied() -> list[str]:
    lines = re.findall(r"^COPY --chown=tightrope (.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [name for line in lines for name in line.split()]


def test_the_dockerfile_copies_what_exists_and_is_not_ignored() -> None:
    assert len(copied()) > 10
    for name in copied():
        assert (ROOT / name).exists(), name
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in IGNORED), name


def test_the_image_holds_what_setup_and_the_demo_read() -> None:
    needed = {"Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "configs"}
    assert set(copied()) >= needed | {"envs", "rewards", "train", "scripts"}
    before_setup = DOCKERFILE.split("RUN make setup")[0]
    assert needed - {"configs"} <= set(re.findall(r"[\w.]+", before_setup))


def test_the_image_runs_as_an_ordinary_user_of_a_supported_python() -> None:
    assert re.search(r"^FROM python:3\.11-slim$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.index("USER tightrope") < DOCKERFILE.index("RUN make setup")


def test_what_git_ignores_stays_out_of_the_image() -> None:
    for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines():
        name = line.rstrip("/")
        assert name in IGNORED or f"**/{name}" in IGNORED, name


def test_pre_commit_runs_the_lines_of_make_check() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    check = re.search(r"^check: .*\n((?:\t.+\n)+)", makefile, re.MULTILINE)
    assert check
    lines = [line.strip().replace("$(BIN)", ".venv/bin") for line in check[1].splitlines()]
    assert [hook["entry"] for hook in hooks] == lines
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert not any(hook["pass_filenames"] for hook in hooks)
