import hashlib
import zipfile

import pytest

from envs.errors import UserError
from envs.grading.test_suite import run_suite
from envs.records import Runtime
from envs.sandbox.fork_server import ForkServer
from envs.sandbox.interpreter import find_interpreter
from envs.sandbox.wheels import install_wheels, pin_wheels

SPY = """
import extra, os, pathlib, pytest

def test_value():
    assert extra.VALUE == 7

def test_read_only():
    folder = pathlib.Path(extra.__file__).parent
    for name in ("extra.py", "new.py"):
        with pytest.raises(OSError):
            (folder / name).write_text("VALUE = 8")
"""


def offer_wheel(folder, monkeypatch, *, name, tag="py3-none-any"):
    """Put a wheel where pip finds it, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "VALUE = 7\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_a_suite_imports_pinned_wheels_and_cannot_change_them(tmp_path, monkeypatch):
    offer_wheel(tmp_path / "index", monkeypatch, name="extra")
    cache = tmp_path / "cache"
    pins = pin_wheels(["extra"], cache_dir=cache)
    interpreter = find_interpreter(Runtime(requirements=pins), cache_dir=cache)
    with ForkServer(preload="pytest", interpreter=interpreter) as server:
        run = run_suite(server, {"test_x.py": SPY}, ids=None, wall_s=20)
    assert len(run.passed) == 2
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert install_wheels(pins, cache_dir=cache).is_dir()


def test_another_wheel_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    offer_wheel(tmp_path / "index", monkeypatch, name="extra")
    pin = f"extra==1.0 --hash=sha256:{hashlib.sha256(b'').hexdigest()}"
    with pytest.raises(UserError, match="cannot get extra"):
        install_wheels([pin], cache_dir=tmp_path)
    assert not list((tmp_path / "wheels").iterdir())


def test_a_wheel_with_compiled_code_is_refused(tmp_path, monkeypatch):
    offer_wheel(tmp_path / "index", monkeypatch, name="extra", tag="cp311-abi3-linux_x86_64")
    with pytest.raises(UserError, match="cannot get extra"):
        pin_wheels(["extra"], cache_dir=tmp_path / "cache")
