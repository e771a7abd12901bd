"""What a stranger may put in place of a file, of a value, or beside them; each draw from a seed.

`OUTSIDE` stands for a folder beside the stranger's in which nothing may be read or written, and
`CODE` for a program that leaves a file there if anybody runs it.
"""

import json
import os
import pickle
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

Edit = Callable[[random.Random, Path, Path], str]  # of a file, given the folder outside

_MAX_BYTES = 2**25
RAN = "somebody-ran-it"
SECRET = "what-lies-outside"
_RAW = {  # written where JSON cannot say it
    "@deep": "[" * 100_000 + "]" * 100_000,
    "@digits": "9" * 5_000,
    "@bare": "nan",
}


def write_outside(folder: Path) -> None:
    """Make the folder outside, of which every reading shows: see `watch.py`."""
    folder.mkdir()
    (folder / "secret.json").write_text(json.dumps({"secret": SECRET}), "utf-8")
    (folder / "secret.txt").write_text(SECRET, "utf-8")
    (folder / "more").mkdir()
    (folder / "more" / "secret.py").write_text(code(folder), "utf-8")


def code(outside: Path) -> str:
    """Return a program that leaves a file outside."""
    return f"open({str(outside / RAN)!r}, 'w').close()\n"


class _Runs:
    """Leaves a file outside when it is unpickled."""

    def __init__(self, outside: Path) -> None:
        self.path = str(outside / RAN)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def pickled(outside: Path) -> bytes:
    """Return a pickle that leaves something outside when it is read."""
    return pickle.dumps(_Runs(outside))


def draw_value(rng: random.Random, outside: Path) -> Any:
    """Return a value that nobody expects."""
    names = ["../outside/secret.json", str(outside / "secret.txt"), "/etc/passwd", "/dev/zero"]
    texts = [
        "",
        "\0",
        "\ud800",
        "-pevil",
        "@/etc/passwd",
        "x" * 100_000,
        "a/" * 100,
        "\u2028\x1b[2J",
    ]
    texts += ["file:///etc/passwd", "http://127.0.0.1:9/x", "git+file:///x", "~/.ssh/id_rsa", "*"]
    numbers = [-1, 0, 1, 2**31, 10**9, 10**15, -(2**63), 1e308, float("nan"), float("inf"), True]
    shapes = [None, [], {}, [None], [[[]]], {"": {}}, {"auto_map": {"AutoConfig": "evil.Evil"}}]
    raw = ["@deep", "@digits", "@bare"]
    return rng.choice(rng.choice([names, texts, [code(outside)], numbers, numbers, shapes, raw]))


def change_value(rng: random.Random, data: Any, outside: Path) -> Any:
    """Change one value, or one name, somewhere in data as JSON has it."""
    places = list(_places(data))
    if not places or rng.random() < 0.05:
        return draw_value(rng, outside)
    holder, key = rng.choice(places)
    how = rng.choice(["replace", "replace", "replace", "drop", "wrap", "text", "repeat", "name"])
    if how == "drop":
        del holder[key]
    elif how == "wrap":
        holder[key] = [holder[key]]
    elif how == "text":
        holder[key] = json.dumps(holder[key])
    elif how == "repeat" and isinstance(holder, list):
        holder += [holder[key]] * 3
    elif how == "name" and isinstance(holder, dict):
        holder[str(draw_value(rng, outside))] = holder.pop(key)
    else:
        holder[key] = draw_value(rng, outside)
    return data


def _places(data: Any) -> Any:
    keys = (
        list(data) if isinstance(data, dict) else range(len(data) if isinstance(data, list) else 0)
    )
    for key in keys:
        yield data, key
        yield from _places(data[key])


def dump(data: Any) -> str:
    """Return data as a text that JSON may not be able to say."""
    text = json.dumps(data)
    for name, raw in _RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text


def change_json(rng: random.Random, path: Path, outside: Path) -> str:
    """Change values in a file of JSON, or in one line of JSONL."""
    try:
        text = _read(path).decode("utf-8")
        lines = [text] if path.suffix == ".json" else [line for line in text.split("\n") if line]
        at = rng.randrange(len(lines))
        lines[at] = dump(change_value(rng, json.loads(lines[at]), outside))
    except (ValueError, RecursionError):
        return change_bytes(rng, path, outside)
    put(path, "\n".join(lines))
    return f"value in {path.name}"


def _read(path: Path) -> bytes:
    """Return what is in a file, of one that was changed already perhaps nothing."""
    is_plain = path.is_file() and not path.is_symlink() and path.stat().st_size < _MAX_BYTES
    return path.read_bytes() if is_plain else b""


def change_bytes(rng: random.Random, path: Path, outside: Path) -> str:
    """Replace what is in a file."""
    old = _read(path)
    cut = rng.randrange(len(old) + 1)
    contents = {
        "empty": b"",
        "cut": old[:cut],
        "a byte": old[:cut] + bytes([rng.randrange(256)]) + old[cut + 1 :],
        "random": rng.randbytes(300),
        "deep": _RAW["@deep"].encode(),
        "deep objects": b'{"a":' * 100_000,
        "UTF-16": old.decode("utf-8", "replace").encode("utf-16", "replace"),
        "twice": old * 2,
        "null": b"null",
        "pickle": pickled(outside),
        "code": code(outside).encode(),
    }
    name = rng.choice(list(contents))
    put(path, contents[name])
    return f"{name} in {path.name}"


def change_kind(rng: random.Random, path: Path, outside: Path) -> str:
    """Put something else than a file in its place."""
    name = rng.choice(
        ["secret", "secret", "FIFO", "loop", "nowhere", "folder", "zero", "huge", "socket"]
    )
    clear(path)
    if name == "FIFO":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    elif name == "huge":
        path.touch()
        os.truncate(path, 2**40)
    elif name == "socket":
        _bind(path)
    else:
        targets = {"loop": path, "nowhere": outside / "none", "zero": Path("/dev/zero")}
        path.symlink_to(targets.get(name, outside / rng.choice(["secret.json", "secret.txt"])))
    return f"{name} for {path.name}"


def add_file(rng: random.Random, folder: Path, outside: Path) -> str:
    """Put a file beside the others that is run, or read, by whoever looks for such files."""
    names = ["conftest.py", "sitecustomize.py", "__init__.py", "evil.py", "evil.pth", "pytest.ini"]
    names += ["modeling_evil.py", "pytorch_model.bin", "adapter_model.bin", "training_args.bin"]
    name = rng.choice(names)
    is_pickle = name.endswith(".bin")
    put(folder / name, pickled(outside) if is_pickle else code(outside))
    return f"added {name}"


def change_file(rng: random.Random, path: Path, outside: Path) -> str:
    """Change one file somehow."""
    edit = rng.choices([change_json, change_bytes, change_kind], weights=[5, 2, 2])[0]
    return edit(rng, path, outside)


def _bind(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


def put(path: Path, data: str | bytes) -> None:
    """Write a file in place of whatever is there."""
    clear(path)
    path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)


def clear(path: Path) -> None:
    """Take away whatever is there."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
