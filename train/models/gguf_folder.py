"""Weights in a GGUF, a file of quantised weights, become a folder as Transformers saves it.

    convert(Path("weights.gguf"), folder, dtype="bfloat16")

For what Transformers reads of GGUF; tried with Llama and Qwen2. The values are those of the file,
rounded to `dtype`; an output matrix of its own stays one.
"""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from train.models.weight_files import make_readable

_OF_THE_GGUF = ("quantization_config", "_model_name_or_path", "_name_or_path", "pad_token_id")


def convert(gguf: Path, folder: Path, *, dtype: str) -> None:
    """Expand the weights of a GGUF and save model and tokenizer in Transformers' form.

    Args:
        gguf: The file.
        folder: An empty folder.
        dtype: Of the weights there: `float32` or `bfloat16`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it takes the weights for ones that stay quantised
    where: dict[str, Any] = {"gguf_file": gguf.name, "trust_remote_code": False}
    where |= {"pretrained_model_name_or_path": str(gguf.parent)}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    with contextlib.redirect_stderr(io.StringIO()):  # a bar that no switch turns off
        loaded, found = AutoModelForCausalLM.from_pretrained(
            **where, dtype=getattr(torch, dtype), output_loading_info=True
        )
    assert not found["missing_keys"], f"the GGUF lacks {sorted(found['missing_keys'])}"
    # what was loaded from a GGUF calls itself quantised and refuses to be saved: its weights go
    # into a model that does not
    shape = loaded.config.to_dict()
    shape = {key: value for key, value in shape.items() if key not in _OF_THE_GGUF}
    config = type(loaded.config)(**shape, pad_token_id=tokenizer.pad_token_id)
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    fresh.load_state_dict(loaded.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.save_pretrained(folder)
    make_readable(folder)
    save_tokenizer(tokenizer, gguf, folder)


def save_tokenizer(tokenizer: Any, gguf: Path, folder: Path) -> None:
    """Save a tokenizer that was read from a GGUF as its family publishes it.

    A GGUF has a word for each row of the matrix, also for rows that no text ever uses, and no
    normalizer: the words go, and what the class of the family adds when it loads is written down.
    """
    from gguf import GGUFReader, TokenType
    from transformers import AutoTokenizer

    kinds = GGUFReader(gguf).fields["tokenizer.ggml.token_type"].contents()
    unused = {number for number, kind in enumerate(kinds) if kind == TokenType.UNUSED}
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    saved = json.loads(path.read_text("utf-8"))
    words = saved["model"]["vocab"].items()
    saved["model"]["vocab"] = {word: number for word, number in words if number not in unused}
    path.write_text(json.dumps(saved, ensure_ascii=False), "utf-8")
    AutoTokenizer.from_pretrained(folder, trust_remote_code=False).save_pretrained(folder)
