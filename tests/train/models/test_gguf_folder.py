"""What a GGUF becomes is the model that it was made of, with the tokenizer of the family."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.train.models.small_gguf import MARKS, TEMPLATE, UNUSED, WORDS, random_model, write_gguf
from train.models.gguf_folder import convert
from train.models.model import load_tokenizer
from train.models.model_folder import check_model

TEXT = "def f(x):\n    return cafe\u0301 + 12\n"


@pytest.mark.parametrize(
    ("architecture", "dtype"), [("qwen2", "bfloat16"), ("qwen2", "float32"), ("llama", "float32")]
)
def test_a_gguf_becomes_the_model_that_it_was_made_of(
    architecture: str, dtype: str, tmp_path: Path
) -> None:
    model, folder = random_model(architecture), tmp_path / "model"
    write_gguf(tmp_path / "weights.gguf", model, architecture)
    folder.mkdir()
    convert(tmp_path / "weights.gguf", folder, dtype=dtype)
    check_model(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert loaded.dtype == getattr(torch, dtype)
    assert loaded.config.model_type == architecture
    ids = torch.tensor([[1, 200, 3, 90, 5, 256]])
    torch.testing.assert_close(loaded.float()(ids).logits, model(ids).logits)


def test_the_tokenizer_is_the_familys(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write_gguf(tmp_path / "weights.gguf", random_model("qwen2"), "qwen2")
    convert(tmp_path / "weights.gguf", folder, dtype="bfloat16")
    tokenizer = load_tokenizer(folder)
    assert not set(UNUSED) & set(tokenizer.get_vocab())
    assert len(tokenizer) == len(WORDS) - len(UNUSED)
    assert tokenizer.convert_tokens_to_ids(MARKS) == [WORDS.index(mark) for mark in MARKS]
    assert tokenizer.decode([WORDS.index("<|im_end|>")], skip_special_tokens=True) == ""
    assert (tokenizer.eos_token, tokenizer.chat_template) == ("<|im_end|>", TEMPLATE)
    ids = tokenizer.encode(TEXT)
    assert ids[0] == WORDS.index("def")
    assert tokenizer.decode(ids) == TEXT.replace("e\u0301", "\u00e9")  # as Qwen2 composes it
    tokenizer.save_pretrained(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):  # what others read is what we read
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
