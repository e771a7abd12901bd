"""Looks at a stranger's tokenizer.json in a process of its own: its library may end the process.

It reads the file and encodes a text, with 4 s of computing and memory by the size of the file. What
passes may be opened here. Published ones take under 2 s (35 MB, 260,000 tokens).
"""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from train.models.weight_files import refuse_file

_LIMIT_S = 4
_LOOK = """
import json, resource, sys
sys.path[:] = json.loads(sys.argv[1])
from tokenizers import Tokenizer
path, text, limit_s, memory = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
limits = {resource.RLIMIT_AS: memory, resource.RLIMIT_CPU: limit_s}
for what, most in {**limits, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}.items():
    resource.setrlimit(what, (most, most))
try:
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    found = len(tokenizer.encode(text, add_special_tokens=False).ids)
    vocabulary = tokenizer.get_vocab()
except BaseException as error:
    sys.exit(f"{type(error).__name__}: {error}"[:300])
if found > 16 * len(text):
    sys.exit(f"{found} tokens of {len(text)} characters")
if max(vocabulary.values(), default=0) > 10 * len(vocabulary) + 100_000:  # written with its gaps
    sys.exit(f"a token has the number {max(vocabulary.values())} of {len(vocabulary)}")
"""
_TEXT = (
    f"def f(x):\n\treturn x['a'] + 10\n{'a' * 200} {' ' * 200}{'1' * 50}{'(-' * 50}\u00e9\u4e2d\n"
)


def check_tokenizer(path: Path) -> None:
    """Refuse a tokenizer.json that cannot be read and used within limits.

    Raises:
        UserError: It cannot.
    """
    about = path.stat()
    if why := _look(path.resolve(), about.st_mtime_ns, about.st_size):
        refuse_file(path, why)


@functools.lru_cache(maxsize=64)
def _look(path: Path, _changed_ns: int, size: int) -> str:
    """Return what is wrong with a file of this time and size, '' for nothing."""
    memory = 2 * 2**30 + 20 * size
    given = [json.dumps(sys.path), str(path), _TEXT, str(_LIMIT_S), str(memory)]
    done = subprocess.run(
        [sys.executable, "-I", "-c", _LOOK, *given],
        env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"it takes more than {_LIMIT_S} s to read it and to encode a line"
    if done.returncode < 0:
        return f"it ends the process that reads it ({signal.Signals(-done.returncode).name})"
    said = done.stderr.decode("utf-8", "replace").strip()
    return said.rpartition("\n")[2] or "it cannot be read" if done.returncode else ""
