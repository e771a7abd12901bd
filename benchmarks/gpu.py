"""What one card does, in ten minutes: generation, training, a GRPO step, beside the estimates.

    python benchmarks/gpu.py                     # on a GPU; the same command goes on where it ended
    python benchmarks/gpu.py --weights FOLDER    # real weights, such as a fetched 0.5B
    python benchmarks/gpu.py --vllm URL          # a server of the same base (docs/vllm.md)
    python benchmarks/gpu.py --size tiny         # anywhere, within seconds, to see that it runs

The shape of Qwen2.5-Coder-3B-Instruct with random weights, bf16, a fresh adapter of rank 32, the
settings of configs/qwen3b.yaml. Episodes are prompts of made-up tokens, eight alike as in a group,
and nothing stops a sample early, so all are as long. No sandbox: what tools add is in
benchmarks/rollouts.py. A row that cannot be measured here says why. Rows are kept in --rows.

The share of the card's peak counts the operations of matrix products and attention that are
carried out, recomputation included, against dense bf16 without sparsity by NVIDIA's data sheets.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch

from benchmarks.measuring import Row, collect, list_commits
from benchmarks.one_card import DEVICE_NAME, GpuBench, Size
from train.stages.exit_codes import run_main

BUDGET_S = 540.0
TITLES = {
    "generation": "Generation from full windows (prompts that a group shares are read once)",
    "training": "Loss and backward of full rows",
    "step": "A whole step",
    "four_bits": "Base in 4 bits",
}
_OF_ALL = ("size", "weights", "device", "what")
_NO_COLUMN = ("spec", "commit")

SIZES = {
    "3b": Size(
        config="configs/qwen3b.yaml",
        overrides=(),
        shape="tests/train/data/qwen2.5-coder-3b",
        windows=(2048, 8192, 32768),
        counts=(1, 32, 256),
        new_tokens=64,
        num_turns=4,
        row_tokens=8192,
        groups=8,
    ),
    "tiny": Size(
        config="configs/smoke.yaml",
        overrides=("--grpo.tokens_per_microbatch=448",),
        shape={
            "model_type": "qwen2",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": 64,
            "tie_word_embeddings": True,
        },
        windows=(32, 64),
        counts=(1, 9),
        new_tokens=4,
        num_turns=2,
        row_tokens=64,
        groups=1,
    ),
}


def main(argv: list[str]) -> int:
    """Measure what is missing until the time is used up, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--size", choices=list(SIZES), default="3b" if on_gpu else "tiny")
    parser.add_argument("--weights", type=Path, help="a model folder in place of random weights")
    parser.add_argument("--vllm", default="", help="URL of a vLLM server that holds that model")
    parser.add_argument("--budget_s", type=float, default=BUDGET_S)
    parser.add_argument("--rows", type=Path, default=ROOT / "runs/benchmarks/gpu.jsonl")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/benchmarks/gpu.md")
    arguments = parser.parse_args(argv)
    weights = arguments.weights and arguments.weights.resolve()
    bench = GpuBench(SIZES[arguments.size], weights=weights)
    about = {"size": arguments.size, "weights": str(weights or ""), "device": DEVICE_NAME}
    specs = [{**about, **spec} for spec in list_specs(bench.size, server=arguments.vllm)]
    rows = collect(specs, bench.measure, kept=arguments.rows, budget_s=arguments.budget_s)
    if not rows:
        return 1
    text = describe(rows)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


def list_specs(size: Size, *, server: str) -> list[dict[str, Any]]:
    """Return what is measured, the most wanted first."""
    training = [{"what": "training", "attention": name} for name in ("sdpa", "flash_attention_2")]
    generation = [
        {"what": "generation", **backend, "episodes": count, "window": window}
        for backend in ({"backend": "transformers"}, {"backend": "vllm", "server": server})
        for window in size.windows
        for count in size.counts
    ]
    return [training[0], {"what": "step"}, *generation, training[1], {"what": "four_bits"}]


def describe(rows: Sequence[Row]) -> str:
    """Return the tables."""
    first = rows[0]["spec"]
    lines = [
        f"# One card: {first['device']}",
        "",
        f"`python benchmarks/gpu.py`: size {first['size']}, "
        f"{first['weights'] or 'random weights'}; commit {list_commits(rows)}.",
    ]
    for what, title in TITLES.items():
        found = [row for row in rows if row["spec"]["what"] == what]
        fine = [row for row in found if "reason" not in row]
        names = [name for row in fine[:1] for name in (*asked(row), *row) if name not in _NO_COLUMN]
        lines += ["", title, ""]
        if fine:
            lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
            lines += [
                "| " + " | ".join(show({**asked(row), **row}[name]) for name in names) + " |"
                for row in fine
            ]
        lines += [
            f"- {' '.join(f'{name} {value},' for name, value in asked(row).items())} "
            f"not measured: {row['reason']}"
            for row in found
            if "reason" in row
        ]
    return "\n".join(lines) + "\n"


def asked(row: Row) -> dict[str, Any]:
    """Return what distinguishes the row from others of its kind."""
    return {name: value for name, value in row["spec"].items() if name not in _OF_ALL}


def show(value: Any) -> str:
    """Return a value for a table."""
    if value is None:
        return "-"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:,.0f}"
        if (isinstance(value, int | float))
        else str(value)
    )


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
