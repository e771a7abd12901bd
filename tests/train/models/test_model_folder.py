"""A stranger's folder of a model or an adapter is refused before a library opens it."""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch

from envs.errors import UserError
from tests.strangers.models import settings_of, write_good
from train.models.adapters import read_adapter_config
from train.models.model import base_source, load_adapter, load_base, load_tokenizer, meta_base
from train.models.model_folder import check_model, naming_faults
from train.models.weight_files import list_weights, make_readable, read_shapes


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_good(folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "strangers"))


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_base(settings_of(str(folder / "model"), folder))
    assert caught.value.remedy
    return str(caught.value)


def test_what_was_written_here_is_loaded(folder: Path) -> None:
    settings = settings_of(str(folder / "model"), folder)
    policy = load_adapter(load_base(settings), folder / "adapter", trainable=False)
    assert policy.peft_config["default"].r == settings.model.lora_rank
    named = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    saved = policy.peft_config["default"].base_model_name_or_path
    assert saved == named["base_model_name_or_path"]


def test_weights_are_readable_as_far_as_the_files_beside_them(folder: Path) -> None:
    weights = folder / "model/model.safetensors"
    weights.chmod(0o600)
    for beside in (folder / "model").glob("*.json"):
        beside.chmod(0o640)
    make_readable(folder)
    assert weights.stat().st_mode & 0o777 == 0o640


def test_links_lead_nowhere_else_but_into_the_blobs_of_the_hub(folder: Path) -> None:
    config = folder / "model" / "config.json"
    config.rename(folder / "config.json")
    config.symlink_to(folder / "config.json")
    assert "a link, which leads elsewhere" in refused(folder)
    snapshot = folder / "models--a--b" / "snapshots" / "abc"
    (folder / "models--a--b" / "blobs").mkdir(parents=True)
    snapshot.parent.mkdir()
    (folder / "model").rename(snapshot)
    (snapshot / "config.json").unlink()
    (folder / "config.json").rename(folder / "models--a--b" / "blobs" / "0")
    (snapshot / "config.json").symlink_to("../../blobs/0")
    check_model(snapshot)


@pytest.mark.parametrize(
    "name", ["generation_config.json", "tokenizer.json", "chat_template.jinja"]
)
def test_what_is_no_file_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / "model" / name).unlink()
    os.mkfifo(folder / "model" / name)
    assert f"{name}: not a regular file" in refused(folder)


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_pickles_are_not_read(folder: Path) -> None:
    for part, name in (("model", "pytorch_model.bin"), ("adapter", "adapter_model.bin")):
        (folder / part / name).write_bytes(pickle.dumps(Runs(folder / "ran")))
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    base = load_base(settings_of(str(folder / "model"), folder))
    with pytest.raises(UserError, match="no adapter there"):
        load_adapter(base, folder / "adapter", trainable=False)
    (folder / "model" / "model.safetensors").unlink()
    assert "pickles are not read" in refused(folder)
    assert not (folder / "ran").exists()


def test_a_base_that_names_another_is_refused(folder: Path) -> None:
    (folder / "model" / "adapter_config.json").write_text('{"base_model_name_or_path": "/else"}')
    assert "names another base" in refused(folder)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000"),
        ({"vocab_size": 10**9}, "describes a model that its weights are not of"),
        ({"hidden_size": 10**15}, "cannot be read"),
        ({"layer_types": [[]]}, "layer_types is no list of names"),
        ({"model_type": ["qwen2"]}, "no causal language model of this type"),
        ({"configuration_files": ["config.4.0.0.json", "../adapter/README.md"]}, "elsewhere"),
        ({"hidden_act": "evil"}, "cannot be read"),
    ],
    ids=str,
)
def test_what_config_json_says_is_checked(folder: Path, fields, said: str) -> None:
    (folder / "adapter" / "README.md").touch()
    change(folder / "model" / "config.json", **fields)
    assert said in refused(folder)


def test_an_attention_that_is_code_of_the_hub_is_not_looked_for(folder: Path) -> None:
    change(folder / "model" / "config.json", attn_implementation="evil/kernel")
    settings = settings_of(str(folder / "model"), folder)
    assert meta_base(settings, None).config._attn_implementation == "eager"


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5_000, "[]", "", "\ud800"])
def test_settings_of_any_text_are_refused(folder: Path, text: str) -> None:
    path = folder / "model" / "tokenizer_config.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match="cannot be read"):
        base_source(settings_of(str(folder / "model"), folder))
    with pytest.raises(UserError):
        load_tokenizer(folder / "model")


def test_heads_of_weights_are_read_within_bounds(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    tensor = {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 16]}
    for head in (json.dumps({"a": tensor}), "[" * 100_000, "[]"):
        path.write_bytes(struct.pack("<Q", len(head)) + head.encode() + bytes(16))
        assert "model.safetensors: " in refused(folder)
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        read_shapes(path)


@pytest.mark.parametrize("shard", ["../x.safetensors", "/x.safetensors", "x.bin", 7, None])
def test_an_index_names_files_of_its_folder(folder: Path, shard: object) -> None:
    (folder / "model" / "model.safetensors").unlink()
    index = folder / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}), "utf-8")
    with pytest.raises(UserError, match="it names"):
        list_weights(folder / "model")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target_modules": "(a|a)*b"}, "target_modules"),
        ({"target_modules": [{}]}, "target_modules"),
        ({"r": 10**9}, "r is 1000000000"),
        ({"r": "8"}, "r is 8"),
        ({"lora_alpha": float("inf")}, "lora_alpha"),
        ({"peft_type": "ADALORA"}, "no LoRA adapter"),
        ({"peft_type": ["LORA"]}, "no LoRA adapter"),
        ({"corda_config": {"cache_file": "/x"}}, "sets corda_config"),
        ({"megatron_config": {"a": 1}}, "sets megatron_config"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
        ({"of_a_later_peft": "on"}, "sets of_a_later_peft"),
    ],
    ids=str,
)
def test_of_an_adapter_lora_layers_are_read_and_no_more(folder: Path, fields, said: str) -> None:
    change(folder / "adapter" / "adapter_config.json", **fields)
    with pytest.raises(UserError, match=said):
        read_adapter_config(folder / "adapter")


def test_what_is_harmless_in_an_adapter_is_passed_over(folder: Path) -> None:
    path = folder / "adapter" / "adapter_config.json"
    fields = {"auto_mapping": {"parent_library": "evil"}, "init_lora_weights": "pissa"}
    change(path, **fields, of_an_earlier_peft=None, use_rslora=True)
    found = read_adapter_config(folder / "adapter")
    assert found.auto_mapping is None
    assert found.init_lora_weights is True
    assert found.use_rslora is True


def test_faults_of_libraries_name_the_folder_and_those_of_the_machine_pass() -> None:
    for error in (KeyError("x"), RecursionError(), type("PanicException", (BaseException,), {})()):
        with pytest.raises(UserError, match="/some/model"), naming_faults("/some/model"):
            raise error
    for error in (MemoryError(), torch.OutOfMemoryError(), OSError(28, "full"), SystemExit()):
        with pytest.raises(type(error)), naming_faults("/some/model"):
            raise error
