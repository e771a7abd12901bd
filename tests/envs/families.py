"""A small tokenizer for each chat template that TRL ships, with the special tokens of its family.

No hub is needed: families differ in their templates. The tokens are those that the template's text
spells out, and begin and end of text by the table, which is what the families' checkpoints have.
"""

import re
from pathlib import Path

import trl
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.envs.world import TOKENIZER

FOLDER = Path(trl.__file__).parent / "chat_templates"
STEMS = sorted(path.stem for path in FOLDER.glob("*.jinja"))
BOS_EOS = {  # by the beginning of the file's name, the longest that fits
    "cohere": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "deepseek": (
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    ),
    "diffusion_gemma": ("<bos>", "<eos>"),
    "gemma": ("<bos>", "<eos>"),
    "glm4moe": (None, "<|endoftext|>"),
    "gptoss": ("<|startoftext|>", "<|return|>"),
    "idefics3": ("<|begin_of_text|>", "<end_of_utterance>"),
    "lfm2": ("<|startoftext|>", "<|im_end|>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llava_next": ("<s>", "</s>"),
    "muse_glimmer": ("<|begin_of_text|>", "<|eot|>"),
    "nemotron": ("<s>", "<|im_end|>"),
    "phi3": ("<s>", "<|endoftext|>"),
    "qwen": (None, "<|im_end|>"),
    "smolvlm": ("<|im_start|>", "<end_of_utterance>"),
}
_SPECIAL = re.compile(
    r"<\|[^|<>'\" ]+\|>|<\uff5c[^\uff5c]+\uff5c>"  # <|im_end|>, DeepSeek's wide bars
    r"|<\|[^|<>'\" ]+>|<[^|<>'\" /]+\|>|<\|\"\|>"  # Gemma 4's <|turn> and <turn|> and quote
    r"|<(?:start|end)_of_\w+>|\[gMASK\]|<sop>|\[/?INST\]"
)
# Phi-3's special tokens take the white space behind them, as in its tokenizer.json
_EATS_SPACE = ("phi3",)


def base_of(stem: str) -> str:
    """Return the name without the mark of TRL's patched copy."""
    return stem.removesuffix("_training")


def template_of(stem: str) -> str:
    """Return the template's text."""
    return (FOLDER / f"{stem}.jinja").read_text(encoding="utf-8")


def tokenizer_of(stem: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer with the family's special tokens and the file as its chat template."""
    bos, eos = BOS_EOS[max((name for name in BOS_EOS if stem.startswith(name)), key=len)]
    text = template_of(stem)
    names = {*_SPECIAL.findall(text), *filter(None, (bos, eos)), "<|im_start|>", "<|im_end|>"}
    rstrip = stem.startswith(_EATS_SPACE)
    backend = Tokenizer.from_str(TOKENIZER.to_str())
    backend.add_special_tokens(
        [AddedToken(name, special=True, normalized=False, rstrip=rstrip) for name in sorted(names)]
    )
    backend.add_tokens(
        [AddedToken(tag, normalized=False) for tag in ("<tool_call>", "</tool_call>")]
    )
    given = {"bos_token": bos} if bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, pad_token=eos, chat_template=text, **given
    )
