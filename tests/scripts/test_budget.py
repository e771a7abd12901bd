"""`tightrope budget` prints what a view holds, from a file of episodes."""

import json
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.files import pack_records
from envs.habits.options import ScriptOptions
from tests.envs.world import play
from tightrope_cli.budget import main, read_episode


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "careful.jsonl.gz"
    pack_records(path, [play("gold"), play("careful", options=ScriptOptions(find="file"))])
    return path


def test_all_turns_then_all_kinds_of_one(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{file}:2"]) == 0
    first, heads, *rows = capsys.readouterr().out.strip().split("\n")
    assert first.startswith("t1, careful, learned, window 400") and "free fits" in heads
    assert len(rows) == len(read_episode(f"{file}:2").turns) and rows[0].endswith("yes")
    assert main([f"{file}:2", "--turn", "2"]) == 0
    text = capsys.readouterr().out
    assert "turn 2:" in text and "observation o1" in text and "output reserve" in text
    sizes = [int(line.split()[-2]) for line in text.strip().split("\n")[2:]]
    assert sum(sizes) == 400, "kinds, reserve and what is free are the window"


def test_json_is_the_record(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(file), "--json"])
    row, *_ = map(json.loads, capsys.readouterr().out.strip().split("\n"))
    assert row["fits"] and row["turn"] == 1 and row["held"] + row["free"] + 48 == 400


@pytest.mark.parametrize(
    ("named", "problem"),
    [("{file}:3", "no such episode"), ("{file}:0", "no such episode"), ("{file}x", "no such file")],
)
def test_what_is_not_there_is_refused(file: Path, named: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        read_episode(named.format(file=file))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\n')
    with pytest.raises(UserError, match="no episodes that can be read"):
        read_episode(str(path))
    path.write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(UserError, match="no episodes that can be read"):
        read_episode(f"{path}:1")
