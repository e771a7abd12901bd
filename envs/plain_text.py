"""Text and data from outside made representable: what cannot be encoded is replaced visibly.

Whatever a candidate raises or prints and whatever a model writes passes here once, where it comes
in; afterwards it can be tokenised, written as JSON and read back. Standard library only: the
fork-server loads this file without the rest of the house.
"""

import math
import re
from typing import Any

MAX_DEPTH = 20  # of data; readers of JSON give up at some 200
MAX_INT_BITS = 14_000  # Python reads no more than 4,300 digits back
_VERSION = re.compile(r"\d{1,2}(\.\d{1,4}){1,2}[a-z0-9+]{0,8}")
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")


def representable(text: str) -> str:
    r"""Return `text` with an escape such as `\udcff` in place of each lone surrogate."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def visible(text: str) -> str:
    r"""Return `text` for a page: also control characters become escapes, but tab and newline."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], representable(text))


def version_or_unknown(text: str) -> str:
    """Return the version of a Python, '' for none, 'unknown' for any other text: a path, say."""
    return text if not text or _VERSION.fullmatch(text) else "unknown"


def plain_data(value: Any, *, depth: int = MAX_DEPTH) -> Any:
    """Return JSON data that reads back as it was written; what does not is replaced by a text.

    Data may be `depth` lists and objects deep. Infinite numbers and those with thousands of digits,
    which JSON lacks or Python does not read, become their names.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return representable(value)
    if isinstance(value, int):
        return value if value.bit_length() <= MAX_INT_BITS else "(a number of thousands of digits)"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict | list | tuple) and depth == 0:
        return "(nested too deep)"
    if isinstance(value, dict):
        pairs = value.items()
        return {representable(str(k)): plain_data(v, depth=depth - 1) for k, v in pairs}
    if isinstance(value, list | tuple):
        return [plain_data(each, depth=depth - 1) for each in value]
    return representable(str(value))
