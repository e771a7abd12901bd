"""What every section of the configuration is made of.

Tests: tests/train/config/test_every_setting.py.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


def _check_different(given: list[Any]) -> list[Any]:
    if twice := [item for at, item in enumerate(given) if item in given[:at]]:
        raise ValueError(f"{twice[0]} is named twice")
    return given


Different = AfterValidator(_check_different)
"""Of a list, each item of which may stand there once."""


class Section(BaseModel):
    """Base of all sections: immutable, an unknown key is an error, docstrings become `--help`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
