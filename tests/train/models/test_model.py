"""Where a base comes from, and what is said, quickly, when it cannot be had."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from envs.errors import UserError
from tests.train.small_run import ROOT, add_base, add_tokenizer, settings_in
from train.config.load import load_settings
from train.config.settings import AttentionName, Settings
from train.models.acting import copy_for_acting
from train.models.model import (
    add_adapter,
    base_source,
    chat_format,
    check_base,
    count_parameters,
    hold_adapter_in_float32,
    load_adapter,
    load_base,
    load_tokenizer,
    meta_base,
    random_tiny,
    run_tokenizer,
    trains_in_bf16,
)

ASK = """
import sys, time
from envs.errors import UserError
from train.models.hub import hub_source
began = time.monotonic()
try:
    print(hub_source("some/model", wait_s=1.0))
except UserError as error:
    print(error)
    assert time.monotonic() - began < 30  # not as long as the server keeps silent
assert "torch" not in sys.modules
"""


def ask_hub(**environment: str) -> str:
    """Return what a process in this environment says of `some/model`."""
    return subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        env={"PATH": "/usr/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def cached_model(folder: Path, *, shards: int) -> Path:
    """Make a hub cache with an index of two shards, of which `shards` are there."""
    repo = folder / "models--some--model"
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    (snapshot / "tokenizer.json").write_text("{}")
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    for number in range(1, shards + 1):
        (snapshot / f"{number}.safetensors").write_text("")
    return snapshot


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = settings_in(tmp_path)
    add_tokenizer(found)
    return found


def test_a_hub_that_never_answers_ends_in_one_line_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        began = time.monotonic()
        said = ask_hub(
            HF_ENDPOINT=f"http://127.0.0.1:{server.getsockname()[1]}", HF_HUB_CACHE=str(tmp_path)
        )
        assert time.monotonic() - began < 60  # the process ends although its question is pending
    assert said.startswith("cannot get some/model from the model hub (got: ")
    assert said.count("\n") == 1
    assert "./FOLDER" in said
    assert "tightrope model fetch qwen2.5-coder-0.5b" in said


def test_a_cached_model_needs_no_hub_and_half_of_it_does(tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    whole = cached_model(tmp_path / "whole", shards=2)
    assert ask_hub(HF_HUB_CACHE=str(tmp_path / "whole"), **nowhere).strip() == str(whole)
    cached_model(tmp_path / "half", shards=1)
    assert "cannot get" in ask_hub(HF_HUB_CACHE=str(tmp_path / "half"), **nowhere)


def test_missing_weights_name_their_remedy(tmp_path: Path) -> None:
    smollm2 = ROOT / "configs" / "smollm2.yaml"
    elsewhere = load_settings(smollm2, [f"--run.cache={tmp_path}"])
    with pytest.raises(UserError) as caught:
        base_source(elsewhere)
    assert caught.value.remedy == f"tightrope model fetch smollm2-135m --cache {tmp_path}"
    folder = load_settings(smollm2, [f"--model.base={tmp_path / 'none'}"])
    with pytest.raises(UserError, match="no model folder"):
        base_source(folder)
    shape = Path(__file__).parents[1] / "data" / "qwen2.5-coder-3b"
    with pytest.raises(UserError, match=r"without all its weights .*no model\.safetensors in"):
        check_base(load_settings(smollm2, [f"--model.base={shape}"]))


def test_attention_names_are_those_of_transformers_and_need_their_package(tmp_path: Path) -> None:
    assert set(get_args(AttentionName)) <= {"eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()}
    if not torch.cuda.is_available():
        flags = ("--model.attn_implementation=flash_attention_2", "--model.dtype=bfloat16")
        with pytest.raises(UserError, match="needs a GPU and its package"):
            check_base(pretrained(tmp_path, *flags))


def pretrained(folder: Path, *flags: str) -> Settings:
    """Return the settings of a small model's folder."""
    settings = settings_in(folder)
    add_tokenizer(settings)
    add_base(settings)
    base = str(folder / "runs" / "smoke" / "sft" / "model")
    return settings_in(folder, f"--model.base={base}", "--model.tiny=[256, 4]", *flags)


def in_4_bits(folder: Path) -> Settings:
    return pretrained(folder, "--model.load_in_4bit=true")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_4_bits_are_refused_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs a GPU .*inference only") as caught:
        load_base(in_4_bits(tmp_path))
    assert "set model.load_in_4bit to false" in caught.value.remedy


@pytest.mark.gpu
def test_a_4_bit_base_carries_a_float32_adapter_that_learns_after_it_acted(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    settings = in_4_bits(tmp_path)
    whole = settings.model_copy(
        update={"model": settings.model.model_copy(update={"load_in_4bit": False})}
    )
    policy = add_adapter(load_base(settings), settings)
    assert count_parameters(policy) == count_parameters(add_adapter(load_base(whole), whole))
    assert copy_for_acting(policy) is policy
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()  # as TRL does
    hold_adapter_in_float32(policy)
    ids_BT = torch.tensor([[1, 5, 7, 300, 2]], device=policy.device)
    with torch.inference_mode():
        policy.eval()(input_ids=ids_BT)
    policy.train()(input_ids=ids_BT, labels=ids_BT).loss.backward()
    trained = {name: p for name, p in policy.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert all(p.grad.norm() > 0 for name, p in trained.items() if "lora_B" in name)


def test_a_tokenizer_without_template_is_refused(settings: Settings) -> None:
    tokenizer = load_tokenizer(run_tokenizer(settings))
    assert chat_format(tokenizer, settings).eot_id == tokenizer.eos_token_id
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        chat_format(tokenizer, settings)


def test_random_weights_depend_on_the_seed_only(settings: Settings, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(run_tokenizer(settings))
    first, again = random_tiny(settings, tokenizer), random_tiny(settings, tokenizer)
    other = random_tiny(settings_in(tmp_path, "--run.seed=1"), tokenizer)
    weights = [model.model.layers[0].mlp.up_proj.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_counting_needs_no_weights(settings: Settings) -> None:
    tokenizer = load_tokenizer(run_tokenizer(settings))
    model = meta_base(settings, tokenizer)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    real = random_tiny(settings, tokenizer)
    assert count_parameters(model).total == count_parameters(real).total
    on_meta, on_real = (count_parameters(add_adapter(each, settings)) for each in (model, real))
    assert on_meta == on_real
    assert 0 < on_meta.share < 0.2


def test_a_model_with_nothing_to_train_is_refused(settings: Settings) -> None:
    model = random_tiny(settings, load_tokenizer(run_tokenizer(settings))).requires_grad_(False)
    with pytest.raises(UserError, match=r"model\.lora_targets"):
        count_parameters(model)


def test_a_folder_without_adapter_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no adapter there"):
        load_adapter(add_base(settings), tmp_path, trainable=True)


def test_auto_is_bf16_where_the_machine_multiplies_it_and_never_where_bytes_must_agree(
    tmp_path: Path,
) -> None:
    able = torch.cpu.get_capabilities()
    if not torch.cuda.is_available():
        has_bf16 = bool(able["avx512_bf16"] or able["amx_bf16"])
        assert trains_in_bf16(settings_in(tmp_path, "--model.precision=auto")) == has_bf16
    exact = ("--model.precision=auto", "--run.deterministic=true")
    assert not trains_in_bf16(settings_in(tmp_path, *exact))
    assert trains_in_bf16(settings_in(tmp_path, "--model.precision=bf16"))
    assert not trains_in_bf16(settings_in(tmp_path))
