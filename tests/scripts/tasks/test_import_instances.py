"""What `tightrope tasks import` refuses before anything runs."""

import pytest

from envs.errors import UserError
from tests.envs.importers import forty_programs
from tests.envs.importers.test_instance_file import SMITH, written
from tightrope_cli.tasks.import_instances import main


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ([], "needs --out"),
        (["--out", "set"], "these instances need --repo"),
        (["--out", "set", "--repo", "none"], "no such folder"),
        (["--out", "set", "--repo", ".", "--env", "x"], "--env takes NAME=VALUE"),
        (["--out", "set", "--repo", ".", "--env", "PATH=x"], "--env takes NAME=VALUE"),
    ],
)
def test_a_line_that_cannot_work_says_so(tmp_path, monkeypatch, flags, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=what):
        main([str(written(tmp_path, SMITH)), *flags])


def test_programs_take_no_repository(tmp_path):
    path = tmp_path / "programs.jsonl"
    forty_programs.write(path, num_programs=1)
    for flags in (["--repo", str(tmp_path)], ["--exclude", "tests/x.py"]):
        with pytest.raises(UserError, match="of no repository"):
            main([str(path), "--out", str(tmp_path / "set"), *flags])
