"""The exported adapter: what is refused, what is written, and that a fresh process agrees."""

import json
from pathlib import Path
from shlex import quote

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from envs.errors import UserError
from envs.files import write_whole
from tests.train.small_run import CONFIG, add_policy, add_tokenizer, arguments, settings_in
from tightrope_cli.export import main
from train.config.settings import Settings
from train.export.export import check_tensors
from train.export.model_card import evaluation_table, serve_line, write_card
from train.export.reload import PROBE, compare_adapter, compare_merged, probe_logits, read_back
from train.models.model import load_tokenizer, run_tokenizer
from train.stages.exit_codes import run_main
from train.stages.open_stage import open_stage
from train.stages.run_dir import stage_dir

ROW = {
    "name": "grpo",
    "sampling": "temperature 1",
    "num_tasks": 100,
    "num_samples": 200,
    "pass_rate": 0.625,
    "pass_rate_ci95": [0.55, 0.7],
    "tokens_per_solved": 1210.4,
    "tokens_per_solved_ci95": [1100.0, None],
    "peak_context_p50": 300.0,
    "peak_context_p95": 420.0,
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = settings_in(tmp_path)
    add_tokenizer(found)
    return found


def tensors(**replaced: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"q.lora_A.weight": torch.ones(2, 4), "q.lora_B.weight": torch.ones(4, 2)} | {
        f"q.{name}.weight": tensor for name, tensor in replaced.items()
    }


def test_a_trained_adapter_passes() -> None:
    assert check_tensors(tensors()) is True


def test_a_start_that_nothing_surpassed_passes_though_it_changes_nothing() -> None:
    assert check_tensors(tensors(lora_B=torch.zeros(4, 2)), may_be_zero=True) is False


@pytest.mark.parametrize(
    ("broken", "part"),
    [
        ({}, "holds no tensors"),
        (tensors(lora_A=torch.empty(0, 4)), "are empty (got: q.lora_A.weight)"),
        (tensors(lora_A=torch.full((2, 4), torch.nan)), "not finite (got: q.lora_A.weight)"),
        (tensors(lora_B=torch.tensor([[1.0, torch.inf]])), "not finite (got: q.lora_B.weight)"),
        (tensors(lora_B=torch.zeros(4, 2)), "all-zero adapter: GRPO changed nothing"),
        (tensors(lora_A=torch.zeros(2, 4)), "all-zero adapter: GRPO changed nothing"),
    ],
    ids=["nothing", "empty", "nan", "infinite", "zero B", "zero A"],
)
def test_a_broken_adapter_is_refused(broken: dict[str, torch.Tensor], part: str) -> None:
    with pytest.raises(UserError) as caught:
        check_tensors(broken)
    assert part in str(caught.value)


def test_export_writes_a_folder_that_loads_elsewhere(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = add_policy(settings).eval()
    capsys.readouterr()  # what libraries say when they are imported
    assert run_main(main, ["--config", str(CONFIG), *arguments(tmp_path)]) == 0
    folder = stage_dir(settings, "export").path
    assert capsys.readouterr().out.strip() == str(folder / "adapter")
    done = json.loads((folder / "done").read_text())
    assert 0 <= done["comparison"]["relative_diff"] <= 1e-4 < done["comparison"]["max_abs_logit"]
    assert not list(folder.glob(".draft*"))
    modes = {path.stat().st_mode for path in folder.rglob("*.*") if path.is_file()}
    assert len(modes) == 1, "a server of another user can read all of it"

    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "../base"
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    base = AutoModelForCausalLM.from_pretrained(moved / "adapter" / "../base")
    reloaded = PeftModel.from_pretrained(base, moved / "adapter").eval()
    tokenizer = load_tokenizer(moved / "adapter")
    assert tokenizer.chat_template == load_tokenizer(run_tokenizer(settings)).chat_template
    served = load_tokenizer(moved / "base")  # a server takes this one
    assert served.encode(PROBE) == tokenizer.encode(PROBE)
    assert served.chat_template == tokenizer.chat_template
    for name, tensor in probe_logits(live, tokenizer).items():
        torch.testing.assert_close(probe_logits(reloaded, tokenizer)[name], tensor)


def test_card_says_how_to_serve_and_what_was_measured(settings: Settings, tmp_path: Path) -> None:
    assert "Not evaluated yet" in evaluation_table(settings)
    summary = {"schema_version": 1, "policies": [ROW]}
    write_whole(stage_dir(settings, "evaluate").path / "summary.json", json.dumps(summary))
    folder = stage_dir(settings, "export").path
    write_card(settings, tmp_path, export_dir=folder)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "peft"
    row = "grpo | temperature 1 | 100 | 200 | 0.62 [0.55, 0.70] | 1,210 [1,100, -] | 300/420"
    assert row in card.text
    line = (
        f"vllm serve {folder}/base --enable-lora --max-lora-rank 8 "
        f"--lora-modules smoke={folder}/adapter"
    )
    assert f"\n{line}\n" in card.text


def test_line_for_a_hub_base_names_its_id_and_the_runs_template(tmp_path: Path) -> None:
    base = ("--model.base=some/model", "--model.tiny=[256, 4]", "--model.chat_template=chatml")
    settings = settings_in(
        tmp_path, *base, "--prompt.tools=brief", "--model.lora_rank=12", "--run.dir=runs"
    )
    assert serve_line(settings, Path("export")) == (
        "vllm serve some/model --enable-lora --max-lora-rank 16 --lora-modules "
        "smoke=export/adapter --chat-template export/adapter/chat_template.jinja"
    )


def test_an_adapter_that_changes_nothing_leaves_no_export(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_policy(settings, scale=0.0)
    assert run_main(main, ["--config", str(CONFIG), *arguments(tmp_path)]) == 2
    assert "grpo.max_steps" in capsys.readouterr().err
    folder = stage_dir(settings, "export").path
    assert not (folder / "adapter").exists()
    assert not (folder / "done").exists()


def test_a_changed_weight_is_noticed_by_the_fresh_process(
    settings: Settings, tmp_path: Path
) -> None:
    live = add_policy(settings).eval()
    written = stage_dir(settings, "grpo").path / "adapter"
    tokenizer = load_tokenizer(run_tokenizer(settings))
    tokenizer.save_pretrained(written)
    path = written / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "lora_B" in name)
    save_file(weights | {name: weights[name] * 1.5}, path)
    base = str(stage_dir(settings, "sft").path / "model")
    options = {"base": base, "dtype": "float32", "attention": "sdpa"}
    found, _ = read_back(written, base=options, draft=tmp_path)
    with pytest.raises(RuntimeError, match="differs from the live model"):
        compare_adapter(probe_logits(live, tokenizer), found, dtype="float32")


def test_merged_weights_load_alone_and_agree(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = add_policy(settings).eval()
    line = ["--config", str(CONFIG), *arguments(tmp_path)]
    before = open_stage(settings, "export")  # an export from before, without merged weights
    before.finish({}, output=before.config)
    assert run_main(main, [*line, "--resume", "--merged"]) == 0
    folder = stage_dir(settings, "export").path
    assert capsys.readouterr().out.splitlines() == [f"{folder}/adapter", f"{folder}/merged"]
    done = json.loads((folder / "done").read_text())
    assert done["comparison_merged"]["relative_diff"] <= 1e-4
    assert done["comparison_merged"]["lost_share"] < 1e-3
    assert not list(folder.glob(".draft*"))
    moved = tmp_path / "elsewhere"
    (folder / "merged").rename(moved)
    merged = AutoModelForCausalLM.from_pretrained(moved).eval()
    tokenizer = load_tokenizer(moved)
    assert tokenizer.chat_template == load_tokenizer(run_tokenizer(settings)).chat_template
    found, expected = probe_logits(merged, tokenizer), probe_logits(live, tokenizer)
    torch.testing.assert_close(found["logits_TV"], expected["logits_TV"], rtol=1e-4, atol=1e-4)
    card = ModelCard.load(moved / "README.md")
    assert card.data.library_name == "transformers"
    assert f"vllm serve {folder}/merged --served-model-name smoke" in card.text


@pytest.mark.parametrize(
    ("found", "dtype", "part"),
    [
        ([1.0, 2.0, 4.0], "float32", None),
        ([1.0, 2.0, 4.1], "float32", "differ from the live model"),
        ([1.0, 2.0, 3.95], "float32", "differ from the live model"),
        ([1.0, 2.0, 3.95], "bfloat16", None),
        ([1.0, 2.0, 3.9], "bfloat16", "lose the adapter"),
        ([1.0, 2.0, float("nan")], "bfloat16", "differ from the live model"),
    ],
    ids=["same", "off", "the base, float32", "half lost", "the base, bfloat16", "nan"],
)
def test_merged_weights_are_held_against_the_live_model_and_the_base(
    found: list[float], dtype: str, part: str | None
) -> None:
    ids_T = torch.tensor([1])
    live, bare, merged = (
        {"ids_T": ids_T, "logits_TV": torch.tensor([logits])}
        for logits in ([1.0, 2.0, 4.0], [1.0, 2.0, 3.9], found)
    )
    if part is None:
        assert compare_merged(live, bare, merged, dtype=dtype)["lost_share"] < 0.6
        return
    with pytest.raises(UserError, match=part) as caught:
        compare_merged(live, bare, merged, dtype=dtype)
    assert "without --merged" in caught.value.remedy
    assert ("--model.dtype float32" in caught.value.remedy) == (dtype == "bfloat16")


def test_missing_inputs_name_their_command(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, ["--config", str(CONFIG), *arguments(tmp_path)]) == 2
    line = f"accelerate launch train/sft.py --config {quote(str(CONFIG))}"
    assert line in capsys.readouterr().err
