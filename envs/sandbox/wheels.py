"""Extra packages that a suite needs: pure-Python wheels, pinned, in a folder named by their pins.

    pins = pin_wheels(["hypothesis"], cache_dir=folder)
    site = install_wheels(pins, cache_dir=folder)

The folder is written once, whole or not at all, and then only read; pip checks each wheel's sha256.
Nothing of a wheel is executed by its installation.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging.utils import parse_wheel_filename

from envs.errors import UserError
from envs.files import hash_file, hash_text

_MAX_CHARS = 200  # of what pip says
_MAX_PINS = 100
_WATCH_S = 1.0
# A URL, a path or an option of pip in its place would have pip build or fetch whatever it likes.
_PIN = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9._-]{0,99}[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.!+_-]{0,63}"
    r"( --hash=sha256:[0-9a-f]{64}){1,50}"
)
# Wheels that run on any machine.
_PURE = ["--only-binary", ":all:", "--platform", "any", "--implementation", "py", "--abi", "none"]


def pin_wheels(wanted: Sequence[str], *, cache_dir: Path) -> tuple[str, ...]:
    """Return pins (`NAME==VERSION --hash=sha256:...`) of packages and of all that they require.

    Of each the newest version with a pure-Python wheel is taken.

    Raises:
        UserError: One cannot be had as a pure-Python wheel.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
        _pip(["download", *_PURE, "--dest", folder, *wanted], wanted)
        return tuple(_pin(path) for path in sorted(Path(folder).iterdir()))


def install_wheels(pins: Sequence[str], *, cache_dir: Path) -> Path:
    """Return the folder with the pinned packages, after installing them if it is not there.

    Raises:
        UserError: One is no pin, pip cannot get it, or what it got has another sha256.
    """
    wrong = [pin for pin in pins if not _PIN.fullmatch(pin)]
    if wrong or len(pins) > _MAX_PINS:
        raise UserError(
            "requirements are pins of wheels: NAME==VERSION --hash=sha256:...",
            got=ascii(wrong[0])[:_MAX_CHARS] if wrong else f"{len(pins)} of them",
            remedy="build the set again, or take it from somebody whom you trust",
        )
    text = "\n".join(sorted(pins)) + "\n"
    folder = cache_dir / "wheels" / hash_text(text)[:24]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        listed, target = Path(fresh) / "requirements.txt", Path(fresh) / "site"
        listed.write_text(text, "utf-8")
        command = ["install", "--no-deps", "--no-compile", *_PURE, "--require-hashes"]
        command += ["--target", str(target), "-r", str(listed)]
        _pip(command, pins)
        shutil.rmtree(target / "bin", ignore_errors=True)
        target.chmod(0o755)  # runs have a user id of their own
        try:
            target.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return folder


def run_pip(
    arguments: Sequence[str],
    *,
    temp_dir: Path | None = None,
    watch: Callable[[], None] = lambda: None,
) -> str:
    """Return '' after pip did what `arguments` say, else the last thing that it said.

    Args:
        arguments: A command of pip and what goes with it.
        temp_dir: Where pip keeps what it has not yet; None: where all programs do.
        watch: Called every second meanwhile.
    """
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    environ = os.environ | ({} if temp_dir is None else {"TMPDIR": str(temp_dir)})
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environ) as pip:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, err = pip.communicate(timeout=_WATCH_S)
                    break
                watch()
        except BaseException:
            pip.kill()
            raise
    if pip.returncode == 0:
        return ""
    return ((err or out).strip().rpartition("\n")[2] or "pip failed")[:_MAX_CHARS]


def download_sdist(requirement: str, *, name: str, folder: Path) -> str:
    """Return '' after the sdist of a project lies in `folder`, else the last thing that pip said.

    Args:
        requirement: A line of a requirements file; pip checks a hash in it before it runs anything.
        name: The project's.
        folder: Where it goes, without what it depends on.
    """
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement}\n", "utf-8")
    command = ["download", "--no-deps", "--no-binary", name, "--dest", str(folder)]
    return run_pip([*command, "-r", str(wanted)])


def _pin(wheel: Path) -> str:
    name, version, *_ = parse_wheel_filename(wheel.name)
    return f"{name}=={version} --hash=sha256:{hash_file(wheel)}"


def _pip(arguments: Sequence[str], wanted: Sequence[str]) -> None:
    if failure := run_pip(arguments):
        raise UserError(
            f"cannot get {', '.join(wanted)} as wheels"[:300],
            got=failure,
            remedy="look at the names and the network; only pure-Python wheels will do",
        )
