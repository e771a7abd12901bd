"""`tightrope budget` prints what a view holds, from a file of episodes."""

import json
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.files import pack_records
from envs.habits.options import ScriptOptions
from tests.envs.world import play
from tests.scripts.made_run import byte_tokenizer
from tightrope_cli.budget import find_tokenizer, main, read_episode


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


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Texts of ten, twenty and five tokens, for a tokenizer of one token per byte."""
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    for name, text in {"system": "0123456789", "docs": "\r\n\u00e9" * 5, "more": "hello"}.items():
        (tmp_path / name).write_bytes(text.encode("utf-8"))
    return tmp_path


def test_texts_fit_or_do_not(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        *("--system", str(texts / "system"), "--docs", str(texts / "docs"), str(texts / "more")),
        *("--tokenizer", str(texts), "--reserve", "15"),
    ]
    assert main([*line, "--window", "50"]) == 0
    first, head, *rows = capsys.readouterr().out.strip().split("\n")
    assert first.endswith("tokenizer.json") and head == "window 50: 35 held; fits"
    assert [int(row.split()[-2]) for row in rows] == [10, 20, 5, 15], "nothing is free"
    assert main([*line, "--window", "49", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["held"], found["free"], found["fits"]) == (35, -1, False)
    assert [*found["tokens"].values()] == [10, 20, 5]


def test_a_tokenizer_is_found_by_file_and_by_name(texts: Path, tmp_path: Path) -> None:
    path = texts / "tokenizer.json"
    assert find_tokenizer(str(path), cache=tmp_path) == path
    fetched = tmp_path / "cache" / "models" / "tiny-coder"
    fetched.mkdir(parents=True)
    with pytest.raises(UserError, match="no model in"):
        find_tokenizer(None, cache=tmp_path / "cache")
    path.rename(fetched / "tokenizer.json")
    for named in ("tiny-coder", None):
        assert find_tokenizer(named, cache=tmp_path / "cache") == fetched / "tokenizer.json"
    with pytest.raises(UserError, match="there is no tokenizer"):
        find_tokenizer("other", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([], "neither an episode nor texts"),
        (["--system", "{folder}/system"], "needs a window"),
        (["x.jsonl:1", "--system", "{folder}/system", "--window", "9"], "no episode"),
        (["--docs", "{folder}/nowhere", "--window", "9"], "cannot be read"),
        (["--history", "{folder}/binary", "--window", "9"], "not UTF-8"),
        (["--system", "{folder}/system", "--window", "0"], "too small"),
    ],
)
def test_texts_that_cannot_be_counted_are_refused(texts: Path, line: list[str], said: str) -> None:
    (texts / "binary").write_bytes(b"\xff\xfe")
    words = [word.format(folder=texts) for word in line]
    named = ["--tokenizer", str(texts)] if "--window" in line else []
    with pytest.raises(UserError, match=said):
        main([*words, *named])
