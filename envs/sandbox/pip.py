"""Runs pip, of the Python that runs this."""

import subprocess
import sys
from collections.abc import Sequence

_MAX_CHARS = 200


def run_pip(arguments: Sequence[str]) -> str:
    """Return '' after pip did what `arguments` say, else the last thing that it said."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
    return (last or "pip failed")[:_MAX_CHARS]
