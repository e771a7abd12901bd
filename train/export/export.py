"""The servable adapter: checked, written with tokenizer and model card, reloaded and compared.

    runs/NAME/export/adapter/   PEFT adapter, tokenizer, chat template, README.md (the model card)
                     base/      the from-scratch model, which no hub has (tiny only)
                     merged/    base and adapter folded into one model (`--merged` only)

An adapter with an empty or non-finite content is refused, an all-zero one too unless dev tasks
chose it: then the best was what GRPO started from. What was written is read back
by a fresh process, tokenizer included, and its logits on a fixed text are compared with those of
the model as training left it (`train/export/reload.py`).
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from envs.errors import UserError
from train.config.settings import Settings
from train.export.model_card import write_card
from train.export.reload import compare_adapter, compare_merged, probe_logits, read_back
from train.models.model import (
    base_source,
    load_adapter,
    load_base,
    load_tokenizer,
    run_tokenizer,
)
from train.models.weight_files import make_readable
from train.stages.run_dir import StageDir, stage_dir
from train.stages.stage_log import say

Report = Callable[[str], None]  # takes what is being done, as a phrase


def export(
    settings: Settings, stage: StageDir, *, report: Report, merged: bool = False
) -> dict[str, Any]:
    """Write `adapter/` (and `base/`) into the stage's folder; they appear only when checked.

    Args:
        settings: The experiment; its GRPO stage is finished.
        merged: Also write `merged/`.

    Returns:
        Facts for the `done` marker: what the adapter holds and how the reloaded models compare.

    Raises:
        UserError: The adapter is empty, not finite, or changes nothing; merging would lose it.
        RuntimeError: What was written differs from what was trained.
    """
    report("checking the adapter")
    source = stage_dir(settings, "grpo").path / "adapter"
    tensors = read_adapter(source)
    if not check_tensors(tensors, may_be_zero=_is_the_start(settings)):
        say("no step of GRPO was better than its start: the adapter changes nothing")
    report("loading the model")
    model = load_adapter(load_base(settings), source, trainable=False).eval()
    draft = stage.path / ".draft"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        facts = _write_and_compare(
            model, settings, draft, final=stage.path, report=report, merged=merged
        )
        make_readable(draft)
        for folder in sorted(draft.iterdir(), reverse=True):  # the adapter last: it needs the base
            shutil.rmtree(stage.path / folder.name, ignore_errors=True)
            folder.rename(stage.path / folder.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return {
        "num_tensors": len(tensors),
        "num_parameters": sum(tensor.numel() for tensor in tensors.values()),
        "changed_by_grpo": changed_since_sft(tensors, settings),
        **facts,
    }


def _write_and_compare(
    model: Any, settings: Settings, draft: Path, *, final: Path, report: Report, merged: bool
) -> dict[str, Any]:
    """Write all folders below `draft` and have a fresh process read them; `model` is used up."""
    dtype = settings.model.dtype
    tokenizer = load_tokenizer(run_tokenizer(settings))
    report("writing")
    write_folders(model, settings, draft, final=final)
    live = probe_logits(model, tokenizer)
    with model.disable_adapter():
        bare = probe_logits(model, tokenizer)
    folder = draft / "merged" if merged else None
    if folder:
        report("merging")
        model.merge_and_unload().save_pretrained(folder)  # adds in float32, rounds once
        _save_beside_weights(tokenizer, settings, folder)
        write_card(settings, folder, export_dir=final, merged=True)
    report("reloading in a fresh process")
    ours, whole = read_back(
        draft / "adapter", base=_base_to_load(settings), draft=draft, merged=folder
    )
    facts: dict[str, Any] = {"comparison": asdict(compare_adapter(live, ours, dtype=dtype))}
    if whole:
        facts["comparison_merged"] = compare_merged(live, bare, whole, dtype=dtype)
    return facts


def read_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a saved adapter.

    Raises:
        UserError: There is no such file.
    """
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise UserError(
            "there is no adapter to export", got=f"no {path}", remedy="run train/grpo.py first"
        )
    return load_file(path)


def check_tensors(tensors: Mapping[str, torch.Tensor], *, may_be_zero: bool = False) -> bool:
    """Refuse an adapter that cannot be what was trained; return whether it changes anything.

    Raises:
        UserError: It holds nothing, an empty tensor or a number that is not finite, or every pair
            of LoRA factors has one that is all zero though it may not be.
    """
    if not tensors:
        raise UserError("the adapter holds no tensors", remedy="train again: the file is broken")
    empty = [name for name, tensor in tensors.items() if not tensor.numel()]
    if empty:
        raise UserError(
            f"{len(empty)} tensors of the adapter are empty",
            got=empty[0],
            remedy="save it from gathered weights: under ZeRO-3 each process holds only a part",
        )
    wild = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if wild:
        raise UserError(
            f"{len(wild)} tensors of the adapter are not finite",
            got=wild[0],
            remedy="train again with a lower grpo.learning_rate; see grpo/metrics.jsonl",
        )
    pairs = {name: name.replace("_A", "_B") for name in tensors if "_A" in name}
    changes = any(
        tensors[first].any() and tensors[second].any()
        for first, second in pairs.items()
        if second in tensors
    )
    if not changes and not may_be_zero:
        raise UserError(
            "all-zero adapter: GRPO changed nothing",
            remedy="train more steps (grpo.max_steps) until a group has both solved and unsolved "
            "episodes, or warm-start longer (sft.epochs)",
        )
    return changes


def _is_the_start(settings: Settings) -> bool:
    """Tell whether dev tasks chose the adapter that GRPO started from."""
    return stage_dir(settings, "grpo").read_json("done").get("best_step") == 0


def changed_since_sft(tensors: Mapping[str, torch.Tensor], settings: Settings) -> bool | None:
    """Tell whether GRPO moved the adapter it went on with; None if it went on with none."""
    folder = stage_dir(settings, "sft").path / "adapter"
    if settings.model.kind == "tiny" or settings.grpo.start_from != "sft" or not folder.is_dir():
        return None
    before = read_adapter(folder)
    return any(not torch.equal(tensor, before[name]) for name, tensor in tensors.items())


def write_folders(model: Any, settings: Settings, draft: Path, *, final: Path) -> None:
    """Write `adapter/` with its card and, for the from-scratch model, `base/` below `draft`."""
    tokenizer = load_tokenizer(run_tokenizer(settings))
    adapter, base = draft / "adapter", draft / "base"
    adapter.mkdir(parents=True)
    model.peft_config["default"].base_model_name_or_path = base_name(settings)
    # explicit: the automatic choice asks the hub whether a vocabulary changed
    model.save_pretrained(adapter, selected_adapters=["default"], save_embedding_layers=False)
    tokenizer.save_pretrained(adapter)
    write_card(settings, adapter, export_dir=final)
    if settings.model.kind == "tiny":
        of_the_trainer = shutil.ignore_patterns("*.bin", "*.pt", "*.md")
        shutil.copytree(stage_dir(settings, "sft").path / "model", base, ignore=of_the_trainer)
        _save_beside_weights(tokenizer, settings, base)


def base_name(settings: Settings) -> str:
    """Return what the adapter's config names as its base: relative for the from-scratch model."""
    return "../base" if settings.model.kind == "tiny" else settings.model.base


def _base_to_load(settings: Settings) -> dict[str, str]:
    model = settings.model
    source = base_source(settings) if model.kind != "tiny" else base_name(settings)
    if model.kind in ("shipped", "folder"):
        source = str(Path(source).resolve())
    return {"base": source, "dtype": model.dtype, "attention": model.attn_implementation}


def _save_beside_weights(tokenizer: Any, settings: Settings, folder: Path) -> None:
    """Save a tokenizer so that `AutoTokenizer` takes its file as it stands.

    Beside a Qwen2 config, Transformers 5.23 puts Qwen's splitting of words in place of the file's,
    and the tiny model's tokenizer then encodes otherwise than in training. It does not where
    `auto_map` is set, whose code it leaves out without `trust_remote_code`: so none is named.
    """
    tokenizer.save_pretrained(folder)
    if settings.model.kind == "tiny":
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["auto_map"] = {"AutoTokenizer": [None, None]}
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
