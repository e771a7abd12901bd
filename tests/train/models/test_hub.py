"""No library reports home unless the user wants it to; what is no name is not asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from envs.errors import UserError
from train.models.hub import hub_source, switch_telemetry_off

ROOT = Path(__file__).resolve().parents[3]
ASK = """
import os, sys
from train.models.hub import switch_telemetry_off
switch_telemetry_off(os.environ)
from huggingface_hub import constants
print(constants.HF_HUB_DISABLE_TELEMETRY)
"""


@pytest.mark.parametrize(
    ("given", "is_off"),
    [({}, "True"), ({"HF_HUB_DISABLE_TELEMETRY": "0"}, "False"), ({"DO_NOT_TRACK": "1"}, "True")],
    ids=["default", "turned on", "turned off"],
)
def test_telemetry_is_off_unless_turned_on(given: dict[str, str], is_off: str) -> None:
    variables = {"PATH": "/usr/bin:/bin", **given}
    shown = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, capture_output=True, text=True, env=variables
    )
    assert shown.stdout == f"{is_off}\n", shown.stderr
    environ = dict(given)
    switch_telemetry_off(environ)
    assert given.items() <= environ.items()


@pytest.mark.parametrize("named", ["tests/some/folder", "two words/model", "--x/y"])
def test_what_can_be_no_name_on_the_hub_is_refused_without_asking(named: str) -> None:
    with pytest.raises(UserError, match="names no model of the hub"):
        hub_source(named)
