"""The servable adapter: checked, written with tokenizer and model card, reloaded and compared.

    runs/NAME/export/adapter/   PEFT adapter, tokenizer, chat template, README.md (the model card)
                     base/      the from-scratch model, which no hub has (tiny only)

An adapter with an empty, non-finite or all-zero content is refused. What was written is read back
by a fresh process (`python -m train.export --check ADAPTER ...`), tokenizer included, and its
logits on a fixed text are compared with those of the model as training left it.

Shapes: T tokens, V vocabulary.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from envs.errors import UserError
from train.model import load_adapter, load_base, load_tokenizer, run_tokenizer
from train.model_card import write_card
from train.run_dir import StageDir, stage_dir
from train.settings import Settings

PROBE = "Repair the code.\ndef area(w, h):\n    return w + h\n<tool_call>"
# Largest difference of two logits, over the largest logit. Both sides run the same code on the
# same weights, so what is left is the order of sums in a kernel: a few units in the last place.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}

Report = Callable[[str], None]  # told what is being done, as a phrase


@dataclass(frozen=True)
class Comparison:
    """Logits of the reloaded model against the live one's, on the same ids.

    Args:
        num_tokens: Tokens of the probe.
        max_abs_diff: Largest difference of two logits.
        max_abs_logit: Largest logit of the live model, the scale of the difference.
        relative_diff: The one over the other.
        tolerance: What is allowed of it.
    """

    num_tokens: int
    max_abs_diff: float
    max_abs_logit: float
    relative_diff: float
    tolerance: float


def export(settings: Settings, stage: StageDir, *, report: Report) -> dict[str, Any]:
    """Write `adapter/` (and `base/`) into the stage's folder; they appear only when checked.

    Args:
        settings: The experiment; its GRPO stage is finished.
        stage: The export stage.
        report: Told what is being done.

    Returns:
        Facts for the `done` marker: what the adapter holds and how the reloaded model compares.

    Raises:
        UserError: The adapter is empty, not finite, or changes nothing.
        RuntimeError: What was written differs from what was trained.
    """
    report("checking the adapter")
    source = stage_dir(settings, "grpo").path / "adapter"
    tensors = read_adapter(source)
    check_tensors(tensors)
    report("loading the model")
    model = load_adapter(load_base(settings), source, trainable=False).eval()
    draft = stage.path / ".draft"
    shutil.rmtree(draft, ignore_errors=True)
    report("writing")
    write_folders(model, settings, draft, final=stage.path)
    report("reloading in a fresh process")
    live = probe_logits(model, load_tokenizer(run_tokenizer(settings)))
    comparison = compare_reloaded(
        live, draft / "adapter", base=_base_to_load(settings), draft=draft
    )
    for folder in sorted(draft.iterdir(), reverse=True):  # the base first: the adapter needs it
        shutil.rmtree(stage.path / folder.name, ignore_errors=True)
        folder.rename(stage.path / folder.name)
    draft.rmdir()
    return {
        "num_tensors": len(tensors),
        "num_parameters": sum(tensor.numel() for tensor in tensors.values()),
        "changed_by_grpo": changed_since_sft(tensors, settings),
        "comparison": vars(comparison),
    }


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


def check_tensors(tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse an adapter that cannot be what was trained, or that changes nothing.

    Raises:
        UserError: It holds nothing, an empty tensor or a number that is not finite, or every pair
            of LoRA factors has one that is all zero.
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
    if not any(
        tensor.any() and tensors[_partner(name)].any()
        for name, tensor in tensors.items()
        if _partner(name) in tensors and "_A" in name
    ):
        raise UserError(
            "all-zero adapter: GRPO changed nothing",
            remedy="train more steps (grpo.max_steps) until a group has both solved and unsolved "
            "episodes, or warm-start longer (sft.epochs)",
        )


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
    write_card(settings, adapter / "README.md", export_dir=final)
    if settings.model.kind == "tiny":
        shutil.copytree(stage_dir(settings, "sft").path / "model", base, ignore=_left_behind)
        tokenizer.save_pretrained(base)


def base_name(settings: Settings) -> str:
    """Return what the adapter's config names as its base: relative for the from-scratch model."""
    return "../base" if settings.model.kind == "tiny" else settings.model.base


@torch.inference_mode()
def probe_logits(model: Any, tokenizer: Any) -> dict[str, torch.Tensor]:
    """Return `ids_T` of the fixed text and the model's `logits_TV` on it, in float32."""
    ids_T = torch.tensor(tokenizer.encode(PROBE, add_special_tokens=False))
    logits_TV = model(input_ids=ids_T[None].to(model.device)).logits[0]
    return {"ids_T": ids_T, "logits_TV": logits_TV.float().cpu().contiguous()}


def compare_reloaded(
    live: Mapping[str, torch.Tensor], adapter: Path, *, base: dict[str, str], draft: Path
) -> Comparison:
    """Read `adapter` back in a fresh process and compare its logits with `live`.

    Args:
        live: What `probe_logits` says of the model as it was trained.
        adapter: The exported folder.
        base: How to load its base: source (relative to the adapter, or absolute), dtype, attention.
        draft: Where the answer is put for a moment.

    Raises:
        RuntimeError: The process fails, or ids or logits differ.
    """
    answer = draft / "probe.safetensors"
    given = {"check": str(adapter.resolve()), **base, "answer": str(answer.resolve())}
    options = [text for name, value in given.items() for text in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "-m", "train.export", *options],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the exported adapter does not load in a fresh process:\n{done.stderr}")
    found = load_file(answer)
    answer.unlink()
    if not torch.equal(found["ids_T"], live["ids_T"]):
        raise RuntimeError("the exported tokenizer encodes differently from the one of the run")
    difference = (found["logits_TV"] - live["logits_TV"]).abs().max().item()
    scale, tolerance = live["logits_TV"].abs().max().item(), TOLERANCE[base["dtype"]]
    if not difference <= tolerance * scale:  # a NaN is no pass
        raise RuntimeError(
            f"the exported adapter differs from the live model: logits by {difference:.3g}, "
            f"largest {scale:.3g}, allowed {tolerance:g} of it"
        )
    return Comparison(len(live["ids_T"]), difference, scale, difference / scale, tolerance)


def check(adapter: Path, *, base: str, dtype: str, attention: str, answer: Path) -> None:
    """Load an exported adapter as its reader would and write what `probe_logits` says of it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    beside = adapter / base
    model = AutoModelForCausalLM.from_pretrained(
        str(beside) if base.startswith("..") else base,
        dtype=getattr(torch, dtype),
        attn_implementation=attention,
    )
    policy = PeftModel.from_pretrained(model, str(adapter)).eval()
    save_file(probe_logits(policy, load_tokenizer(adapter)), answer)


def _base_to_load(settings: Settings) -> dict[str, str]:
    from train.model import base_source

    model = settings.model
    source = base_source(settings) if model.kind != "tiny" else base_name(settings)
    if model.kind in ("shipped", "folder"):
        source = str(Path(source).resolve())
    return {"base": source, "dtype": model.dtype, "attention": model.attn_implementation}


def _partner(name: str) -> str:
    return name.replace("_A", "_B")


def _left_behind(folder: str, names: list[str]) -> list[str]:
    """Leave out what a trainer puts beside a model."""
    del folder
    return [name for name in names if name.endswith((".bin", ".pt", ".md"))]


def main(argv: list[str]) -> int:
    """Be the fresh process of `compare_reloaded`."""
    parser = argparse.ArgumentParser(prog="python -m train.export")
    for name in ("check", "base", "dtype", "attention", "answer"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args(argv)
    check(
        Path(given.check),
        base=given.base,
        dtype=given.dtype,
        attention=given.attention,
        answer=Path(given.answer),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
