"""A task set can be looked at and played without an experiment, whatever splits it has."""

import gzip
import json
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.records import Split
from envs.sources.synthetic import generate
from envs.tasks.store import Manifest, write_built
from tightrope_cli.main import run_verb
from train.config.load import TASKS, Command, load_settings, parse_command

TINY = Path(__file__).resolve().parents[3] / "configs" / "tiny.yaml"


def write_set(folder: Path, split: Split = "test", count: int = 2) -> Path:
    tasks = list(generate(count, split=split, seed=0))
    write_built(folder, tasks=tasks, manifest=Manifest(source="synthetic", seed=0, licence="x"))
    return folder


def parse(*line: str) -> Command:
    return parse_command(line, prog="p", description="", example="e", flags=[TASKS])


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_set_alone_is_an_experiment_on_the_split_that_it_has(tmp_path: Path, split) -> None:
    folder = write_set(tmp_path / "-a set", split)
    command = parse("--tasks", str(folder), "--context.max_turns", "7")
    settings = command.settings
    assert (settings.run.name, settings.tasks.dir) == ("set-a-set", str(folder))
    assert (settings.evaluate.split, settings.evaluate.num_tasks) == (split, 2)
    assert settings.context.max_turns == 7
    assert command.experiment == f"--tasks '{folder}' --context.max_turns 7"


def test_a_set_beside_an_experiment_takes_the_place_of_its_own(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    command = parse("--config", str(TINY), "--tasks", str(folder))
    own = load_settings(TINY, ["--tasks.dir", json.dumps(str(folder))])
    assert command.settings == own
    with pytest.raises(UserError, match="--config or --tasks"):
        parse()
    with pytest.raises(UserError, match="no task set"):
        parse("--tasks", str(tmp_path))


def test_every_command_on_tasks_takes_a_set_with_test_tasks_only(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_set(Path("mine"))
    assert run_verb(["tasks", "validate", str(folder)]) == 0
    assert run_verb(["tasks", "stats", str(folder)]) == 0
    assert run_verb(["tasks", "show", str(folder)]) == 0
    first = capsys.readouterr().out.split("\n")[-3].split()[0]
    assert run_verb(["tasks", "show", f"{folder}/{first}", "--private"]) == 0
    assert "+++ b/" in capsys.readouterr().out
    assert run_verb(["demos", "--tasks", str(folder)]) == 0
    demonstrations = Path("runs/set-mine/demos/demonstrations.jsonl.gz")
    assert capsys.readouterr().out == f"{demonstrations}\n"
    assert gzip.decompress(demonstrations.read_bytes()).count(b"\n") == 2
    assert run_verb(["evaluate", "--tasks", str(folder)]) == 0
    summary = json.loads(Path("runs/set-mine/evaluate/summary.json").read_text("utf-8"))
    rates = {row["name"]: row["pass_rate"] for row in summary["policies"]}
    assert rates == {"gold": 1.0, "careful": 1.0, "noop": 0.0}


def test_what_a_set_alone_cannot_play_is_refused_with_what_would_do(tmp_path: Path) -> None:
    line = ["evaluate", "--tasks", str(write_set(tmp_path / "set"))]
    with pytest.raises(UserError, match="name the --config of its experiment"):
        run_verb([*line, "--policies", "grpo"])
    (tmp_path / "adapter").mkdir()
    config = {"base_model_name_or_path": "./base"}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(UserError, match=r"add --model\.base \./base"):
        run_verb([*line, "--policies", str(tmp_path / "adapter")])
    with pytest.raises(UserError, match=r"has 2 test.*--evaluate\.split test"):
        run_verb([*line, "--evaluate.split", "dev", "--run.dir", str(tmp_path)])
    with pytest.raises(UserError, match="an ID alone names no task set"):
        run_verb(["tasks", "show", "t_0123456789ab"])
