"""Which weights make a CPU generate fast: bf16 as it lies or packed, int8, int4, by number of rows.

    python benchmarks/cpu_kernels.py --config configs/qwen05b.yaml           # the base is enough

All matrices of the base are multiplied once by as many rows as are decoded (or, at 512, read) at
once, each way, in turns; attention and all else is left out. The error is that of the product
against float32 on random inputs, relative, the mean over matrices: of bf16 it is the rounding of
results. `int8 x int8` rounds the activations of each row as well, as a real network has them worse
than random ones.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch
from torch import Tensor

from benchmarks.any_project import commit
from train.config.load import load_settings
from train.models.model import load_base, set_up_torch
from train.stages.exit_codes import run_main

NUM_ROWS = (1, 4, 16, 64, 512)
GROUP = 64  # columns of a matrix that share a scale in int4
REPEATS = 5

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Result:
    """Tokens per second through all matrices by number of rows, and the mean relative error."""

    tokens_per_s: dict[int, float]
    error: float


def main(argv: list[str]) -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=ROOT / "configs/qwen05b.yaml")
    parser.add_argument("--layers", type=int, default=24, help="layers of the base that are used")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/cpu_kernels.md")
    arguments, overrides = parser.parse_known_args(argv)
    settings = load_settings(arguments.config, overrides)
    set_up_torch(settings)
    matrices = find_matrices(load_base(settings), num_layers=arguments.layers)
    found = {name: measure(matrices, prepare) for name, prepare in WAYS.items()}
    text = describe(found, matrices)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


def find_matrices(base: torch.nn.Module, *, num_layers: int) -> list[Tensor]:
    """Return the weights of the linear layers of the first layers, and of the head, in bf16."""
    return [
        module.weight.detach().bfloat16()
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear)
        and (".layers." not in name or int(name.split(".layers.")[1].split(".")[0]) < num_layers)
    ]


def as_it_lies(weight: Tensor) -> Product:
    """Multiply by bf16 as Transformers does."""
    return lambda rows: torch.nn.functional.linear(rows, weight)


def packed(weight: Tensor) -> Product:
    """Multiply by bf16 that lies as oneDNN wants it."""
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
    return lambda rows: torch.ops.mkldnn._linear_pointwise(rows, laid_out, None, "none", [], "")


def int8_weights(weight: Tensor) -> Product:
    """Multiply bf16 by int8 with a scale for each output."""
    integers, scales = to_int8(weight)
    scales = scales[:, 0].bfloat16()
    return lambda rows: torch.ops.aten._weight_int8pack_mm(rows, integers, scales)


def int4_weights(weight: Tensor) -> Product:
    """Multiply bf16 by int4 with a scale and a zero for each group of 64 columns."""
    groups = weight.float().view(len(weight), -1, GROUP)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scales = ((high - low) / 15).clamp(min=1e-8)
    integers = ((groups - low) / scales).round().clamp(0, 15).int().view_as(weight)
    laid_out = torch.ops.aten._convert_weight_to_int4pack_for_cpu(integers, 1)
    zeros = low + 8 * scales  # the kernel's integers go from -8 to 7
    facts = torch.cat([scales, zeros], dim=-1).transpose(0, 1).contiguous().bfloat16()
    return lambda rows: torch.ops.aten._weight_int4pack_mm_for_cpu(rows, laid_out, GROUP, facts)


def int8_all(weight: Tensor) -> Product:
    """Multiply int8 by int8, with a scale for each row and each output."""
    integers, scales = to_int8(weight)
    transposed, scales_1N = integers.t(), scales.t()

    def multiply(rows: Tensor) -> Tensor:
        rounded, of_rows = to_int8(rows)
        return (torch._int_mm(rounded, transposed) * of_rows * scales_1N).bfloat16()

    return multiply


def to_int8(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return integers and the scale of each row, of shape (rows, 1)."""
    scales = values.float().abs().amax(-1, keepdim=True).clamp(min=1e-8) / 127
    return (values.float() / scales).round().to(torch.int8), scales


WAYS: dict[str, Callable[[Tensor], Product]] = {
    "bf16 as it lies": as_it_lies,
    "bf16 packed": packed,
    "int8 weights": int8_weights,
    "int4 weights": int4_weights,
    "int8 x int8": int8_all,
}


def measure(matrices: Sequence[Tensor], prepare: Callable[[Tensor], Product]) -> Result:
    """Time one way for all numbers of rows."""
    with torch.inference_mode():
        products = [prepare(weight) for weight in matrices]
        generator = torch.Generator().manual_seed(0)
        found: dict[int, float] = {}
        for num_rows in NUM_ROWS:
            inputs = {
                width: torch.randn(num_rows, width, generator=generator).bfloat16()
                for width in {weight.shape[1] for weight in matrices}
            }
            pairs = [
                (product, inputs[w.shape[1]]) for product, w in zip(products, matrices, strict=True)
            ]
            seconds = []
            for _ in range(1 + REPEATS if num_rows < 512 else 2):
                began = time.perf_counter()
                for product, rows in pairs:
                    product(rows)
                seconds.append(time.perf_counter() - began)
            found[num_rows] = num_rows / statistics.median(seconds[1:])
        errors = [
            (product(rows).float() - (exact := rows.float() @ weight.float().t())).norm()
            / exact.norm()
            for (product, rows), weight in zip(pairs, matrices, strict=True)
            if len(weight) < 20_000
        ]
    return Result(found, statistics.fmean(float(error) for error in errors))


def describe(found: dict[str, Result], matrices: Sequence[Tensor]) -> str:
    """Return the table."""
    millions = sum(weight.numel() for weight in matrices) / 1e6
    lines = [
        "# Weights of generation on a CPU",
        "",
        f"`python benchmarks/cpu_kernels.py`: {len(matrices)} matrices of {millions:,.0f} M values "
        f"on {torch.get_num_threads()} threads; commit {commit()}. Tokens per second through all.",
        "",
        "| Rows at once | " + " | ".join(map(str, NUM_ROWS)) + " | Relative error |",
        "|---" * (len(NUM_ROWS) + 2) + "|",
    ]
    for name, result in found.items():
        speeds = " | ".join(f"{speed:,.0f}" for speed in result.tokens_per_s.values())
        lines.append(f"| {name} | {speeds} | {result.error:.2%} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
