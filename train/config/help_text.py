"""The configuration as text: one row per field, for `--help` and for naming near misses."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from train.config.settings import Settings


@dataclass(frozen=True)
class FieldRow:
    """One leaf of the configuration as `--help` shows it."""

    path: str
    type: str
    default: str
    help: str


def field_rows(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[FieldRow]:
    """Yield every leaf field, in the order of the schema."""
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        if inner := section_of(info):
            yield from field_rows(inner, f"{path}.")
        else:
            kind, default = _type_text(info.annotation), _default_text(info)
            yield FieldRow(path, kind, default, info.description or "")


def yaml_text(value: object) -> str:
    """Return `value` as it would stand in the YAML file."""
    text = yaml.safe_dump(
        list(value) if isinstance(value, tuple) else value, default_flow_style=True
    )
    return text.removesuffix("\n").removesuffix("\n...")


def describe_fields() -> str:
    """Return the configuration fields as text: name, type, default, meaning."""
    lines = ["configuration (in the YAML file, or as --section.field VALUE):"]
    section = ""
    for row in field_rows():
        if (head := row.path.split(".")[0]) != section:
            section = head
            lines.append(f"\n  {head}: {Settings.model_fields[head].description}")
        default = f" [{row.default}]" if row.default else " (required)"
        lines.append(f"    --{row.path} {row.type}{default}\n        {row.help}")
    return "\n".join(lines)


def section_of(info: FieldInfo) -> type[BaseModel] | None:
    """Return the section that a field holds; None for a leaf."""
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _type_text(kind: Any) -> str:
    origin, inner = get_origin(kind), [_type_text(part) for part in get_args(kind)]
    if origin is None:
        return "null" if kind is NoneType else getattr(kind, "__name__", repr(kind))
    if origin is Annotated:
        return inner[0]
    if origin in (Literal, Union, UnionType):
        return "|".join(part.strip("'") for part in inner)
    return f"{origin.__name__}[{', '.join(inner)}]"


def _default_text(info: FieldInfo) -> str:
    if info.is_required():
        return ""
    return "null" if info.default is None else yaml_text(info.default)
