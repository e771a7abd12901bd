"""Python source as text: lines as the parser counts them, bytes as its coding line says (PEP 263).

A file is held as the text that its bytes decode to, BOM and coding line included, so that the text
alone says which bytes to write: `encode_source(decode_source(data)) == data`. Standard library
only: the fork-server loads this file without the rest of the house.

Not covered: codecs that lose bytes (such as `unicode_escape`); a file in one is refused.
"""

import codecs
import io
import re
from base64 import b64decode, b64encode

BOM = "\ufeff"
SOURCE_SUFFIX = ".py"
_BYTES = "\0base64,"
_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII | re.DOTALL)  # PEP 263
_BLANK = re.compile(rb"[ \t\f]*(?:#|$)", re.ASCII)


class SourceError(ValueError):
    """Bytes or text that are no Python source in the encoding that they name; says why."""


def text_lines(text: str, *, keepends: bool = False) -> list[str]:
    r"""Return the lines of a text; they end at \n, \r\n or \r and nowhere else.

    Unlike `str.splitlines`, which also cuts at form feeds, U+0085, U+2028 and others.
    """
    lines = list(io.StringIO(text, newline=""))
    return lines if keepends else [line.rstrip("\r\n") for line in lines]


def source_lines(text: str, *, keepends: bool = False) -> list[str]:
    """Return the lines of a file as the parser numbers them; a BOM belongs to none of them.

    `bom_of(text) + "".join(source_lines(text, keepends=True)) == text`.
    """
    return text_lines(text.removeprefix(BOM), keepends=keepends)


def bom_of(text: str) -> str:
    """Return the BOM that a text begins with, or ''."""
    return text[:1] if text.startswith(BOM) else ""


def decode_source(data: bytes) -> str:
    """Return the text of a Python file; `encode_source` gives the same bytes back.

    Raises:
        SourceError: The bytes are not what the coding line (or, without one, UTF-8) says.
    """
    encoding = _declared(data)
    try:
        text = data.decode(encoding)
        same = encode_source(text) == data
    except (ValueError, LookupError) as error:
        raise SourceError(_reason(error, encoding)) from error
    if not same or not _is_text(text):
        raise SourceError(f"{encoding} does not give its bytes back")
    return text


def encode_source(text: str) -> bytes:
    """Return the bytes of a Python file.

    Raises:
        SourceError: The encoding that its coding line names is unknown, or lacks a character.
    """
    encoding = _declared(text[:2000].encode("utf-8", "surrogatepass"))
    try:
        return text.encode(encoding)
    except (ValueError, LookupError) as error:
        raise SourceError(_reason(error, encoding)) from error


def hold_bytes(data: bytes) -> str:
    """Return how a tree holds the bytes of a file that is no text; `file_bytes` undoes it.

    A NUL and `base64,`, with which no text begins, then the bytes in base64.
    """
    return _BYTES + b64encode(data).decode()


def holds_bytes(text: str) -> bool:
    """Tell whether a file of a tree is no text."""
    return text.startswith(_BYTES)


def file_bytes(path: str, text: str) -> bytes:
    """Return the bytes of any file of a tree; what cannot be encoded becomes an escape."""
    if holds_bytes(text):
        return b64decode(text.removeprefix(_BYTES))
    if path.endswith(SOURCE_SUFFIX):
        try:
            return encode_source(text)
        except SourceError:
            pass  # no Python can read it either
    return text.encode("utf-8", "backslashreplace")


def _declared(head: bytes) -> str:
    """Return the encoding that the first two lines name, as the parser finds it."""
    has_bom = head.startswith(codecs.BOM_UTF8)
    for line in re.split(rb"\r\n|\r|\n", head.removeprefix(codecs.BOM_UTF8), maxsplit=2)[:2]:
        if match := _COOKIE.match(line):
            name = match[1].decode("ascii")
            if has_bom and _normal(name) != "utf-8":
                raise SourceError(f"a BOM says UTF-8, the coding line says {name}")
            return _normal(name)
        if not _BLANK.match(line):
            break
    return "utf-8"


def _normal(name: str) -> str:
    """Return an encoding's name as the parser knows it: `utf-8-unix` is UTF-8."""
    plain = f"{name.lower().replace('_', '-')}-"
    if plain.startswith("utf-8-"):
        return "utf-8"
    latin = ("latin-1-", "iso-8859-1-", "iso-latin-1-")
    return "latin-1" if plain.startswith(latin) else name


def _reason(error: Exception, encoding: str) -> str:
    if isinstance(error, SourceError):
        return str(error)
    if isinstance(error, LookupError):
        return f"unknown encoding {encoding}"
    if isinstance(error, UnicodeDecodeError):
        return f"not {encoding} at byte {error.start + 1}"
    if isinstance(error, UnicodeEncodeError):
        return f"{encoding} has no {error.object[error.start]!a}"
    return f"not {encoding}"


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: UTF-7 and others can write one
        return False
    return True
