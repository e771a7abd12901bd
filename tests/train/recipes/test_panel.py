"""The panel at the start of a stage: whole, aligned, and narrow enough for a terminal."""

from dataclasses import replace
from pathlib import Path

import pytest

from train import grpo
from train.config.load import parse_command
from train.models.model import ParameterCount
from train.recipes.panel import describe_grpo, describe_sft
from train.stages.exit_codes import resuming
from train.stages.run_dir import stage_dir

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "configs").glob("*.yaml"))
LARGE = ParameterCount(total=3_145_805_824, trainable=59_867_136)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_experiment_has_a_panel_that_fits(config: Path) -> None:
    line = [f"--config={config}", "--force", "--clean"]
    command = parse_command(line, prog="x", description="x", example="x")
    command = replace(command, again=resuming(grpo.PROGRAM, line))
    settings = command.settings
    steps = f"{settings.grpo.groups_per_step} groups x {settings.grpo.group_size} ="
    for text, own in (
        (
            describe_grpo(command, stage_dir(settings, "grpo"), count=LARGE, num_tasks=2000),
            ["2,000 to train on", f"{settings.grpo.max_steps} of {steps}", f"runs/{config.stem}"],
        ),
        (
            describe_sft(
                command, stage_dir(settings, "sft"), count=LARGE, lengths=[8192] * 4000, num_steps=9
            ),
            ["4,000 segments, 32,768,000 tokens, longest 8,192"],
        ),
    ):
        lines = text.split("\n")
        assert len(lines) <= 12
        *rows, last = lines
        assert all(len(row) <= 80 for row in rows)
        assert last.endswith(f"accelerate launch train/grpo.py --config={config} --force --resume")
        assert {row[13:15].isspace() for row in lines[1:]} == {False}
        for part in (settings.model.base, "3.15 B", "59.9 M parameters (1.90%)"):
            assert part in text
        for part in own if config.stem != "tiny" else own[:2]:
            assert part in text


def test_a_stage_that_another_command_started_names_no_command() -> None:
    command = parse_command([f"--config={CONFIGS[0]}"], prog="x", description="x", example="x")
    command = replace(command, again=resuming("", []))
    text = describe_grpo(command, stage_dir(command.settings, "grpo"), count=LARGE, num_tasks=1)
    assert "resume" not in text
