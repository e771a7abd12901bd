"""Packaging: names resolve into the checkout, a wheel holds the whole house and no more."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Collection
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"train": "train", "envs": "envs", "rewards": "rewards", "scripts": "tightrope_cli"}
RUNNABLE = ["train/sft.py", "train/grpo.py", "scripts/main.py", "scripts/pipeline.py"]
DATA = ("*.jinja", "*.j2", "*.lock")


def copy_of_checkout(folder: Path) -> Path:
    names = [*FOLDERS, "pyproject.toml", "README.md", "LICENSE"]
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def test_packages_are_listed_completely() -> None:
    found = {
        ".".join([package, *path.relative_to(ROOT / folder).parts[:-1]])
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(found)


@pytest.mark.parametrize("name", PYPROJECT["tool"]["setuptools"]["packages"])
def test_names_resolve_into_the_checkout(name: str) -> None:
    assert Path(import_module(name).__file__).is_relative_to(ROOT)


def test_it_cannot_be_uploaded_by_accident() -> None:
    assert "Private :: Do Not Upload" in PYPROJECT["project"]["classifiers"]


def test_constraints_pin_every_dependency_within_its_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    assert [name for name, version in pins.items() if "+" in version] == []
    project = PYPROJECT["project"]
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name.lower()]), text
        assert re.search(r"<|==", str(requirement.specifier)), f"{text} has no upper bound"


def test_constraints_pin_nothing_that_setup_does_not_install() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(line.split("==")[0]) for line in lines if not line.startswith("#")}
    assert (
        pins - {canonicalize_name(name) for name in needed("tightrope", extras=("dev",))} == set()
    )


def needed(name: str, *, extras: Collection[str]) -> set[str]:
    """Return the package and all that it needs here, with what these need, and so on."""
    found: set[str] = set()
    pending = [(name, extra) for extra in ("", *extras)]
    while pending:
        name, extra = pending.pop()
        if f"{name}[{extra}]" not in found:
            found |= {name, f"{name}[{extra}]"}
            needs = map(Requirement, distribution(name).requires or [])
            pending += [
                (need.name, each)
                for need in needs
                if need.marker is None or need.marker.evaluate({"extra": extra})
                for each in ("", *need.extras)
            ]
    return {each for each in found if not each.endswith("]")}


@pytest.mark.parametrize("file", RUNNABLE)
def test_files_run_from_a_bare_checkout_beside_foreign_packages(file: str, tmp_path: Path) -> None:
    checkout = copy_of_checkout(tmp_path / "checkout")
    for name in ("envs", "train"):  # `envs` is a popular package on PyPI
        foreign = tmp_path / "foreign" / name
        foreign.mkdir(parents=True)
        (foreign / "__init__.py").write_text("raise ImportError('the foreign one')")
    (checkout / "train" / "logging.py").write_text("raise ImportError('not the standard one')")
    shown = subprocess.run(
        [sys.executable, str(checkout / file), "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "foreign"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert "usage:" in shown.stdout


@pytest.mark.slow
def test_a_wheel_holds_every_module_and_template_and_nothing_else(tmp_path: Path) -> None:
    checkout = copy_of_checkout(tmp_path)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", "dist"]
    line = ["-m", "pip", "wheel", *options, "."]
    built = subprocess.run([sys.executable, *line], cwd=checkout, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = (checkout / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = next(
            name for name in archive.namelist() if name.endswith("entry_points.txt")
        )
        assert "tightrope = tightrope_cli.main:main" in archive.read(entry_points).decode()
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for pattern in ("*.py", *DATA)
        for path in (ROOT / folder).rglob(pattern)
    }
    assert held == expected
