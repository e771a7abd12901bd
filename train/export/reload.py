"""Reads an export back in a fresh process and compares its logits with those of the live model.

What a reader of the export will load is loaded here in the same way: tokenizer, base and adapter
from their folders (`python -m train.export.reload JSON`), then the merged weights
if there are some. All see one fixed text, in the type of the weights.

Merging rounds: in bfloat16 a small adapter can get lost between two neighbouring numbers, so merged
weights are also held against the bare base.

Shapes: T tokens, V vocabulary.

Tests: tests/train/export/test_export.py.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from envs.errors import UserError
from train.models.model import load_tokenizer

PROBE = "Repair the code.\ndef area(w, h):\n    return w + h\n<tool_call>"
# Largest difference of two logits, over the largest logit. Both sides run the same code on the
# same weights, so what is left is the order of sums in a kernel: a few units in the last place.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}
# Merged weights round once more. SmolLM2-135M with a trained adapter and with 0.1 and 10 times that
# adapter: at most 2.4e-6 in float32, 1.6e-2 to 3.2e-2 in bfloat16 (measured).
MERGED_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
# Largest root mean square of live - merged, over that of live - base: what of the adapter's effect
# rounding may drown. The same adapters, 1, 0.1 and 10 times: 0.50, 1.17, 0.06 in bfloat16; below
# 4e-4 in float32 (measured). Base weights that were saved without merging give exactly 1.
MOST_LOST = 0.75

Probe = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Comparison:
    """Logits of a reloaded model against the live one's, on the same ids.

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

    @property
    def is_close(self) -> bool:
        """Whether the difference is allowed; a NaN is not."""
        return self.relative_diff <= self.tolerance

    def __str__(self) -> str:
        return (
            f"logits differ by {self.max_abs_diff:.3g}, largest {self.max_abs_logit:.3g}, "
            f"allowed {self.tolerance:g} of it"
        )


@torch.inference_mode()
def probe_logits(model: Any, tokenizer: Any) -> dict[str, torch.Tensor]:
    """Return `ids_T` of the fixed text and the model's `logits_TV` on it, in float32."""
    ids_T = torch.tensor(tokenizer.encode(PROBE, add_special_tokens=False))
    logits_TV = model(input_ids=ids_T[None].to(model.device)).logits[0]
    return {"ids_T": ids_T, "logits_TV": logits_TV.float().cpu().contiguous()}


def read_back(
    adapter: Path, *, base: Mapping[str, str], draft: Path, merged: Path | None = None
) -> tuple[Probe, Probe | None]:
    """Have a fresh process load an export; returns what it says of adapter and merged weights.

    Args:
        adapter: The exported folder.
        base: How to load its base: source (relative to the adapter, or absolute), dtype, attention.
        draft: Where the answer is put for a moment.
        merged: The folder of merged weights, if there is one.

    Raises:
        RuntimeError: Something does not load.
    """
    answer = draft / "probe.safetensors"
    given = {"adapter": str(adapter.resolve()), **base, "answer": str(answer.resolve())}
    given |= {"merged": str(merged.resolve())} if merged else {}
    done = subprocess.run(
        [sys.executable, "-m", "train.export.reload", json.dumps(given)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the export does not load in a fresh process:\n{done.stderr}")
    found = load_file(answer)
    answer.unlink()
    ours = {name: found.pop(name) for name in ("ids_T", "logits_TV")}
    return ours, {name.removeprefix("merged_"): part for name, part in found.items()} or None


def compare_adapter(live: Probe, found: Probe, *, dtype: str) -> Comparison:
    """Compare base + adapter, read back, with the live model.

    Raises:
        RuntimeError: Ids or logits differ: what was written is not what was trained.
    """
    comparison = _compare(live, found, TOLERANCE[dtype])
    if not comparison.is_close:
        raise RuntimeError(f"the exported adapter differs from the live model: {comparison}")
    return comparison


def compare_merged(live: Probe, bare: Probe, found: Probe, *, dtype: str) -> dict[str, float]:
    """Compare merged weights, read back, with the live model and with the base alone.

    Args:
        live: The probe of the live model.
        bare: That of the live model with its adapter switched off.
        found: That of the merged weights.
        dtype: The type of the weights.

    Returns:
        The comparison's numbers, and `lost_share` as `MOST_LOST` explains it.

    Raises:
        UserError: They differ, or the adapter got lost in rounding.
    """
    comparison = _compare(live, found, MERGED_TOLERANCE[dtype])
    error, effect = (_rms(live["logits_TV"] - other["logits_TV"]) for other in (found, bare))
    lost = error / effect if effect else float("inf")
    if comparison.is_close and lost <= MOST_LOST:
        return {**asdict(comparison), "lost_share": lost}
    got = str(comparison)
    if comparison.is_close:
        got = f"{lost:.0%} of its effect on the logits, allowed {MOST_LOST:.0%}"
    remedy = "export without --merged and serve base and adapter"
    if dtype != "float32":
        remedy += ", or merge in float32: --model.dtype float32"
    what = "differ from the live model" if not comparison.is_close else "lose the adapter"
    raise UserError(f"the merged weights {what}: nothing was exported", got=got, remedy=remedy)


def _compare(live: Probe, found: Probe, tolerance: float) -> Comparison:
    if not torch.equal(found["ids_T"], live["ids_T"]):
        raise RuntimeError("the exported tokenizer encodes differently from the one of the run")
    difference = (found["logits_TV"] - live["logits_TV"]).abs().max().item()
    scale = live["logits_TV"].abs().max().item()
    return Comparison(len(live["ids_T"]), difference, scale, difference / scale, tolerance)


def _rms(values: torch.Tensor) -> float:
    return values.square().mean().sqrt().item()


def write_probes(given: Mapping[str, str]) -> None:
    """Be the fresh process of `read_back`: load as a reader would, write the probes."""

    def load(source: str) -> Any:
        return AutoModelForCausalLM.from_pretrained(
            source,
            trust_remote_code=False,
            dtype=getattr(torch, given["dtype"]),
            attn_implementation=given["attention"],
        ).eval()

    tokenizer, source = load_tokenizer(given["adapter"]), given["base"]
    if source.startswith(".."):  # our own base: servers take the tokenizer that lies beside it
        source = str(Path(given["adapter"]) / source)
        if load_tokenizer(source).encode(PROBE) != tokenizer.encode(PROBE):
            raise RuntimeError("the tokenizers beside base and adapter encode differently")
    base = load(source)
    policy = PeftModel.from_pretrained(base, given["adapter"]).eval()
    found = probe_logits(policy, tokenizer)
    if "merged" in given:
        del base, policy  # one model in memory at a time
        merged = probe_logits(load(given["merged"]), load_tokenizer(given["merged"]))
        found |= {f"merged_{name}": part for name, part in merged.items()}
    save_file(found, given["answer"])


if __name__ == "__main__":
    write_probes(json.loads(sys.argv[1]))
