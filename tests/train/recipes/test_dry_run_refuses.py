"""What fails when a stage starts fails in its dry run, with the same words, and writes nothing."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.sources.build import build
from tests.train.small_run import (
    CONFIG,
    PASSED_GATE,
    add_base,
    add_demonstrations,
    arguments,
    on_one_core,
    settings_in,
)
from tightrope_cli import demos, evaluate
from train import grpo, sft
from train.recipes.grpo import make_starting_model
from train.stages.exit_codes import run_main
from train.stages.run_dir import stage_dir

GOLD = "--evaluate.policies=[gold] --evaluate.num_tasks=1"
REFUSED = {
    "no task is that hard": (grpo, "--tasks.difficulty={sites: [3, 9]}", "no train task is within"),
    "no suite for a second runner": (grpo, "--reward.second_runner_share=1", "no suite to run"),
    "no adapter there": (grpo, "--grpo.start_from=./nowhere", "no adapter there (got: nowhere)"),
    "another adapter": (grpo, "--grpo.start_from={own}/adapter", "size mismatch"),
    "no such layer": (grpo, "--model.lora_targets=[q_proj, k_prj]", "did you mean 'k_proj'?"),
    "no such optimizer": (grpo, "--grpo.trl.optim=adamv", "adamv is not a valid OptimizerNames"),
    "no such schedule": (grpo, "--grpo.trl.lr_scheduler_type=up", "up is not a valid SchedulerTy"),
    "no such tracker": (grpo, "--run.report_to=trackio", "pip install trackio"),
    "no GPU for tf32": (grpo, "--grpo.trl.tf32=true", "tf32 requires Ampere"),
    "groups of three": (grpo, "--grpo.groups_per_step=3", "do not divide among the processes"),
    "another width since": (grpo, "--model.tiny=[32, 2]", "sft was made with other settings"),
    "no warm start": (grpo, "--run.name=cold", "sft is missing"),
    "outside the gate": (grpo, "--run.name=weak", "the warm start is outside the gate"),
    "half a run": (grpo, "--run.name=half", "grpo holds an unfinished run"),
    "contradicting flags": (sft, "--resume --clean", "contradict each other"),
    "half a warm start": (sft, "--run.name=begun", "sft holds an unfinished run"),
    "no demonstrations": (sft, "--run.name=none", "demos is missing"),
    "no task to show that hard": (demos, "--run.name=x --tasks.difficulty={files:[9,9]}", "within"),
    "half of the demonstrations": (demos, "--run.name=smoke", "demos is finished"),
    "no task to play that hard": (evaluate, f"{GOLD} --tasks.difficulty={{files:[9,9]}}", "within"),
    "an evaluation was begun": (evaluate, f"{GOLD} --run.name=begun", "holds an unfinished run"),
    "another template since": (sft, "--model.chat_template=null", "demos was made with other"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs that stopped at different places."""
    with on_one_core():
        yield halted_runs(tmp_path_factory.mktemp("refused"))


def halted_runs(found: Path) -> Path:
    build("synthetic", out_dir=found / "tasks", counts={"train": 2, "dev": 1, "test": 1}, seed=0)
    for name in ("smoke", "cold", "weak", "half", "begun"):
        settings = settings_in(found, f"--run.name={name}")
        add_demonstrations(settings)
        if name not in ("cold", "begun"):
            add_base(settings)
    weak = stage_dir(settings_in(found, "--run.name=weak"), "sft").done
    weak.write_text(json.dumps(PASSED_GATE | {"dev_pass_rate": 0.01}))
    for name, stage in (("half", "grpo"), ("begun", "sft"), ("begun", "evaluate")):
        path = stage_dir(settings_in(found, f"--run.name={name}"), stage).path
        path.mkdir(exist_ok=True)
        (path / "metrics.jsonl").write_text("")
    wide = settings_in(found, "--run.name=wide", "--model.tiny=[32, 2]")
    add_demonstrations(wide)
    model = add_base(wide)
    adapter = make_starting_model(wide, model)
    adapter.save_pretrained(found / "adapter")
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("main", "flags", "part"), REFUSED.values(), ids=REFUSED)
def test_the_start_and_its_dry_run_refuse_alike(
    main, flags: str, part: str, folder: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)  # not installed
    if "groups" in flags:
        monkeypatch.setenv("WORLD_SIZE", "2")
    given = flags.split(" --")
    given = [given[0], *(f"--{flag}" for flag in given[1:])]
    overrides = [flag.replace("{own}", str(folder)) for flag in given]
    line = [f"--config={CONFIG}", *arguments(folder), *overrides]
    before = content(folder)
    said = []
    for more in (["--dry-run"], []):
        assert run_main(main.main, [*line, *more]) == 2
        said.append(capsys.readouterr().err.splitlines()[-1])
        if more:
            assert content(folder) == before
    assert part in said[0]
    assert said[0] == said[1]
    if main is grpo and "=half" not in flags:  # a start's leavings are in the next one's way
        shutil.rmtree(stage_dir(settings_in(folder), "grpo").path, ignore_errors=True)
