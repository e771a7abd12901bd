"""Functions of the user's own, named as `package.module:function` in the configuration.

Modules are looked for as Python does, and then in the working directory. Naming one runs its code
when the configuration is read, so that a wrong name is an error of the configuration.

Tests: tests/train/config/test_load.py.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any


def is_function(value: str) -> bool:
    """Tell `package.module:function` from the name of something shipped."""
    return ":" in value


def load_function(path: str) -> Callable[..., Any]:
    """Import the function; raises whatever the import raises."""
    module, _, name = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: nothing of ours or of Python's is shadowed
    function = getattr(import_module(module), name)
    if not callable(function):
        raise TypeError(f"{name} is no function")
    return function


def find_fault(value: str, *, names: Sequence[str], keywords: Sequence[str]) -> str | None:
    """Return what is wrong with a name, None if nothing.

    Args:
        value: The value of a setting.
        names: What is shipped.
        keywords: The function takes one positional argument and these.
    """
    if value in names:
        return None
    if not is_function(value):
        shipped = ", ".join(map(repr, names))
        return f"input should be {shipped} or package.module:function (got {value})"
    try:
        function = load_function(value)
    except Exception as error:  # whatever the user's module raises
        return (
            f"{value} does not import ({type(error).__name__}: {error}); modules are looked for "
            "among the installed packages and in the working directory"
        )
    try:
        inspect.signature(function).bind(None, **dict.fromkeys(keywords))
    except TypeError as error:
        return f"{value} must take (x, *, {', '.join(keywords)}): {error}"
    return None
