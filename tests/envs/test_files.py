"""Lines of JSON are read back as written, wherever a kill cut; files are replaced whole or not."""

import gzip
import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs import files
from envs.records import Compacted, Noted
from train.stages.run_dir import StageDir

TEXT = st.text(st.sampled_from('a\n\r\t"\\ \u2028\u2029\x85\x0c\x1c\x00'))
VALUES = st.one_of(TEXT, st.integers(), st.booleans(), st.none(), st.floats())
IN_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@IN_FOLDER
@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=3), max_size=4), st.data())
def test_rows_come_back_and_a_cut_costs_the_last_one(tmp_path: Path, rows, data) -> None:
    path = tmp_path / "rows.jsonl"
    path.unlink(missing_ok=True)
    for row in rows:
        files.append_row(path, row)
    found = files.read_rows(path)
    assert found == [json.loads(files.to_json(row)) for row in rows]
    assert [row.keys() for row in found] == [row.keys() for row in rows]
    if rows:
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        assert files.read_rows(path) == found[: path.read_bytes().count(b"\n")]


@IN_FOLDER
@given(st.lists(st.builds(Compacted, summary=TEXT, prefix_ids=st.just((1, 2))), max_size=4))
def test_records_come_back_one_a_line(tmp_path: Path, records) -> None:
    stage = StageDir(tmp_path, "grpo")
    path = stage.write_episodes(1, records)
    assert gzip.decompress(path.read_bytes()).decode() == files.join_records(records)
    assert list(files.stream_records(path, Compacted)) == records


def test_a_file_that_another_program_saved_is_read_too(tmp_path: Path) -> None:
    note = Noted(path="x\u2028.py", start=1, end=2, facts="\x85")
    path = tmp_path / "x.jsonl"
    line = note.model_dump_json()
    path.write_bytes(f"{line}\r\n\r\n{line}".encode())  # blank line, CRLF, no line end
    assert list(files.stream_records(path, Noted)) == [note, note]


def test_equal_records_make_equal_bytes(tmp_path: Path) -> None:
    notes = [Noted(path="x.py", start=1, end=2, facts=f"fact {number}") for number in range(50)]
    for name in ("one.gz", "two.gz"):
        files.pack_records(tmp_path / name, notes)
    packed = (tmp_path / "one.gz").read_bytes()
    assert packed == (tmp_path / "two.gz").read_bytes()
    assert packed[3] == 0 and packed[4:8] == bytes(4)  # RFC 1952: no name, no time
    assert 5 * len(packed) < len(files.join_records(notes))


def test_records_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b'{"kind":"noted","path":"x","start":1,"end":2,"facts":""}\n{'))
    records = files.stream_records(path, Noted)
    assert next(records).path == "x"
    with pytest.raises(ValueError, match="Invalid JSON"):
        next(records)


def test_numbers_that_are_not_finite_become_null() -> None:
    assert files.to_json({"a": math.nan, "b": [math.inf, 1.0]}) == '{"a": null, "b": [null, 1.0]}'


def test_a_line_with_a_line_feed_is_refused() -> None:
    with pytest.raises(AssertionError, match="line feed"):
        files.join_lines(["{}\n{}"])


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "made" / "x.txt"
    files.write_whole(path, "one\n")
    with pytest.raises(UnicodeEncodeError):
        files.write_whole(path, "two\n\ud800")
    assert path.read_bytes() == b"one\n"
    assert list(path.parent.iterdir()) == [path]


def test_digests_are_sha256_of_content_and_of_names(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes("\u00e4".encode())
    two.write_bytes(b"b" * 300_000)
    plain = hashlib.sha256(one.read_bytes()).hexdigest()
    assert files.hash_text("\u00e4") == files.hash_file(one) == plain
    named = b"x/one\0" + one.read_bytes() + b"two\0" + two.read_bytes()
    found = files.hash_files({"x/one": one, "two": two})
    assert found == hashlib.sha256(named).hexdigest()
