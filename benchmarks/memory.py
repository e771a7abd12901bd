"""Peak memory of training and reading on a CPU, beside what `--dry-run` estimates.

    python benchmarks/memory.py          # under a CPU minute, 3 GB; writes results/memory.md

Models of the demo's shape and of SmolLM2-135M's, with zeros for weights and an adapter of rank 32.
Training is one loss and backward through TRL's head, or with all logits at once, as a model's own
loss has them; reading is one forward pass into an empty cache. Bytes are those that the process
holds at most (VmHWM, which Linux lets one reset) above those before; each tensor is mapped on its
own (MALLOC_MMAP_THRESHOLD_), so that what is freed counts no more. Each row has a process.

Limits: on a GPU TRL's head works in place with Triton, and kernels have memory of their own.
"""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from train.config.load import load_settings
from train.models.model import add_adapter, count_parameters
from train.recipes.estimate import count_kv_bytes, estimate_memory

RESULTS = ROOT / "benchmarks" / "results" / "memory.md"
ROW_TOKENS = 256
LEAST_MAPPED = 65536  # bytes of the smallest tensor that is mapped on its own
KINDS = {
    "tiled": "loss and backward, TRL's head",
    "whole": "loss and backward, all logits",
    "reading": "reading prompts",
}
SPECS = [
    *(("tiny", kind, tokens) for kind in ("tiled", "whole") for tokens in (1024, 2048)),
    ("tiny", "reading", 2048),
    *(("smollm2", kind, 512) for kind in KINDS),
]


def make_model(name: str) -> Any:
    """Return a model of a config's shape; what its weights are changes no size."""
    with torch.device("meta"):
        if name == "tiny":
            model: Any = Qwen2ForCausalLM(
                Qwen2Config(
                    vocab_size=1024,
                    hidden_size=256,
                    intermediate_size=768,
                    num_hidden_layers=3,
                    num_attention_heads=8,
                    num_key_value_heads=8,
                    tie_word_embeddings=True,
                )
            )
        else:
            model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=49152,
                    hidden_size=576,
                    intermediate_size=1536,
                    num_hidden_layers=30,
                    num_attention_heads=9,
                    num_key_value_heads=3,
                    tie_word_embeddings=True,
                )
            )
    model = model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    model.tie_weights()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model


def peak_bytes(run: Any) -> int:
    """Return the most bytes that were held at once while something ran, above those before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = read_status("VmRSS")
    run()
    return read_status("VmHWM") - before


def read_status(name: str) -> int:
    """Return a size of this process in bytes."""
    lines = Path("/proc/self/status").read_text("ascii").split("\n")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def measure(name: str, kind: str, num_tokens: int) -> dict[str, Any]:
    """Return the measured and the estimated bytes of one spec."""
    torch.set_num_threads(1)
    settings = load_settings(
        ROOT / "configs" / f"{name}.yaml",
        [
            "--context.window_tokens=[256, 256]",
            "--context.max_new_tokens=16",
            f"--grpo.tokens_per_microbatch={num_tokens}",
            f"--grpo.generation_batch={num_tokens // ROW_TOKENS}",
            f"--rollouts.prefill_tokens={num_tokens}",
            "--sft.tokens_per_batch=4096",
        ],
    )
    model = add_adapter(make_model(name), settings)
    ids_BT = torch.ones(num_tokens // ROW_TOKENS, ROW_TOKENS, dtype=torch.long)
    inputs = {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)}
    estimate = estimate_memory(
        settings,
        "grpo",
        shape=model.config,
        count=count_parameters(model),
        world_size=1,
        on_cpu=True,
    )

    def train() -> None:
        options = {"fused_lm_head": True} if kind == "tiled" else {}
        model(**inputs, labels=ids_BT, **options).loss.backward()

    def read() -> None:
        with torch.inference_mode():
            model(**inputs, use_cache=True, logits_to_keep=1)

    if kind == "reading":
        cache = count_kv_bytes(settings, shape=model.config) * num_tokens
        return {"measured": peak_bytes(read) - cache, "estimated": estimate.forward}
    model.train()
    model(input_ids=ids_BT[:1, :8], labels=ids_BT[:1, :8]).loss.backward()  # makes the gradients
    head = estimate.head if kind == "tiled" else 12 * num_tokens * model.config.vocab_size
    return {"measured": peak_bytes(train), "estimated": estimate.activations + head}


def main() -> int:
    """Measure each spec in a process of its own, and write the table."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
        return 0
    lines = []
    for name, kind, num_tokens in SPECS:
        found = subprocess.run(
            [sys.executable, __file__, name, kind, str(num_tokens)],
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(LEAST_MAPPED)},
            check=True,
            stdout=subprocess.PIPE,
        )
        row = json.loads(found.stdout.split(b"\n")[-2])
        sizes = f"{row['measured'] / 1e6:,.0f} MB | {row['estimated'] / 1e6:,.0f} MB"
        ratio = row["estimated"] / row["measured"]
        lines.append(f"| {name} | {KINDS[kind]} | {num_tokens:,} | {sizes} | {ratio:.2f} |")
        print(lines[-1], flush=True)
    RESULTS.write_text(
        "# Peak memory on a CPU, and its estimate\n\n"
        "`python benchmarks/memory.py`: float32, one thread, rows of 256 tokens, without weights, "
        "optimizer and cache.\n\n"
        "| Shape | What | Tokens | Measured | Estimated | Estimate / measurement |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
