from pathlib import Path

import pytest

from envs.errors import UserError
from tightrope_cli.tasks import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def arguments(tmp_path):
    sizes = {"tasks.train": 4, "tasks.dev": 2, "tasks.test": 2}
    fits = {"evaluate.num_tasks": 2, "tasks.dir": tmp_path / "set"}
    overrides = [f"--{name}={value}" for name, value in (sizes | fits).items()]
    return ["--config", str(ROOT / "configs" / "smoke.yaml"), *overrides]


def test_build_then_look(arguments, tmp_path, capsys):
    assert main(["build", *arguments, "--dry-run"]) == 0
    assert "would build 4 train, 2 dev, 2 test tasks" in capsys.readouterr().out
    assert not (tmp_path / "set").exists()

    assert main(["build", *arguments]) == 0
    written = capsys.readouterr()
    assert "4 train, 2 dev, 2 test (built)" in written.out
    assert "checking gold and no-op: 8/8" in written.err

    before = (tmp_path / "set" / "manifest.json").stat().st_mtime_ns
    assert main(["build", *arguments]) == 0
    assert "already built" in capsys.readouterr().out
    assert (tmp_path / "set" / "manifest.json").stat().st_mtime_ns == before

    assert main(["stats", *arguments]) == 0
    assert "operators: " in capsys.readouterr().out

    name = (tmp_path / "set" / "train.jsonl").read_text("utf-8").partition('"id":"')[2][:14]
    assert main(["show", name, *arguments]) == 0
    public = capsys.readouterr().out
    assert name in public
    assert "+++ b/" not in public
    assert main(["show", name, *arguments, "--private"]) == 0
    assert "+++ b/" in capsys.readouterr().out
    with pytest.raises(UserError, match="no task has this id"):
        main(["show", "t_zzz", *arguments])

    with pytest.raises(UserError, match="another task set") as caught:
        main(["build", *arguments, "--tasks.seed=5"])
    assert "--clean" in caught.value.remedy


def test_tasks_may_come_from_a_function_of_the_users_own(arguments, capsys):
    own = ["--tasks.source", "tests.train.own_functions:one_function"]
    assert main(["build", *arguments, *own]) == 0
    written = capsys.readouterr()
    assert "4 train, 2 dev, 2 test (built)" in written.out
    assert "checking gold and no-op: 8/8" in written.err
    assert main(["stats", *arguments, *own]) == 0
    assert "editable: m0.py 8" in capsys.readouterr().out

    own = ["--tasks.source=tests.train.own_functions:always_train"]
    with pytest.raises(UserError, match="does not fit"):
        main(["build", *arguments, *own, "--clean"])


@pytest.mark.parametrize("action", ["stats", "show"])
def test_a_missing_set_names_the_command(arguments, action):
    with pytest.raises(UserError, match="no task set") as caught:
        main([action, *(["t_0"] if action == "show" else []), *arguments])
    assert "tightrope tasks build --config" in caught.value.remedy


def test_an_unknown_action_names_the_near_one():
    with pytest.raises(UserError, match="unknown action") as caught:
        main(["stat"])
    assert "stats" in caught.value.remedy
