import json
from pathlib import Path

import pytest

from envs.errors import UserError
from tests.envs.world import TOKENIZER
from train.models.tokenizer_file import check_tokenizer

WHOLE = json.loads(TOKENIZER.to_str())
ODD_ID = {"content": "x", "single_word": False, "lstrip": False, "rstrip": False}
ODD_ID |= {"normalized": False, "special": True}


def written(folder: Path, **fields: object) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(WHOLE | fields), "utf-8")
    return path


def test_one_that_was_saved_here_passes(tmp_path: Path) -> None:
    check_tokenizer(written(tmp_path))
    check_tokenizer(written(tmp_path, padding=_padding(10**9)))  # nobody pads with it


def _padding(length: int) -> dict[str, object]:
    strategy = {"Fixed": length}
    fields = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}
    return {"strategy": strategy, "pad_token": "[PAD]", **fields}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": None}, "Exception"),
        ({"added_tokens": [{"id": -1, **ODD_ID}]}, "Exception"),
        (
            {"model": {**WHOLE["model"], "vocab": {"a": 2**31}, "merges": []}},
            "the number 2147483648",
        ),
        (
            {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 1000}},
            "characters",
        ),
    ],
    ids=["no model", "an id below 0", "an id far off", "a letter becomes a text"],
)
def test_what_its_library_cannot_take_is_refused(tmp_path: Path, fields, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_tokenizer(written(tmp_path, **fields))


def test_what_ends_the_process_is_refused_and_looked_at_anew_when_it_changed(
    tmp_path: Path,
) -> None:
    content = "b" * 10**7
    bomb = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    with pytest.raises(UserError, match=r"ends the process|more than 4 s"):
        check_tokenizer(written(tmp_path, normalizer=bomb))
    check_tokenizer(written(tmp_path))
