"""The configuration as text: every field with type, default and meaning, for `--help`.

Tests: tests/train/config/test_load.py.
"""

import textwrap
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from typing_extensions import is_typeddict

from train.config.settings import Settings, list_fields


def describe_fields() -> str:
    """Return the configuration fields as text: name, type, default, meaning."""
    lines = ["configuration (in the YAML file, or as --section.field VALUE):"]
    section = ""
    for path, field in list_fields().items():
        if (head := path.split(".")[0]) != section:
            section = head
            lines.append(f"\n  {head}: {Settings.model_fields[head].description}")
        lines.append(f"    --{path} {_type_text(field.annotation)} {_default_text(field)}")
        lines.append(textwrap.indent(field.description or "", " " * 8))
    return "\n".join(lines)


def _type_text(kind: Any) -> str:
    origin, inner = get_origin(kind), [_type_text(part) for part in get_args(kind)]
    if is_typeddict(kind):
        return "dict"
    if origin is None:
        return "null" if kind is NoneType else getattr(kind, "__name__", repr(kind))
    if origin is Annotated:
        return inner[0]
    if origin in (Literal, Union, UnionType):
        return "|".join(part.strip("'") for part in inner)
    return f"{origin.__name__}[{', '.join(inner)}]"


def _default_text(field: FieldInfo) -> str:
    """Return the default as it would stand in the YAML file."""
    if field.is_required():
        return "(required)"
    if field.default_factory:
        return "[derived]"
    plain = list(field.default) if isinstance(field.default, tuple) else field.default
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6)
    return f"[{text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}]"
