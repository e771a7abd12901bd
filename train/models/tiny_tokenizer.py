"""The tiny model's tokenizer: a byte-level BPE trained on the task texts, no download.

The pre-tokenizer keeps the joints of a tool call (`{"name": "`, `", "arguments": {`, ...) whole,
so that a call costs about as many tokens as it has decisions, file names whole, and digits
single. A name keeps its leading space wherever it stands, so that copying it from the statement
into a call copies the same tokens.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from envs.records import HiddenTask, RepairTask
from envs.source_text import source_lines
from envs.tools import NAMES

VOCAB_SIZE = 1024  # special tokens included; suits synthetic tasks (measured)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
_PIECES = Regex(
    r'\{"name": "'
    r'|", "arguments": \{\}?\}?'
    r'|(?:", |, )?"[a-z_]+": \[?"?'
    r'|"?\]?\}\}'
    r"|(?:system|user|assistant|tool)\n"
    r"| returned | raised |, expected "
    r"|\d"
    r"|\w+\.py"
    r"| ?[A-Za-z_]+"
    r"|\n +"
    r"|:(?: {2,})?"
    r'| *"""'
    r"| ?[^\sA-Za-z0-9]"
    r"|\s+"
)


def task_corpus(pairs: Iterable[tuple[RepairTask, HiddenTask, dict[str, str]]]) -> Iterator[str]:
    """Yield text as episodes of these (training) tasks will hold it: sources, statements, calls."""
    for task, hidden, files in pairs:
        yield f"{task.statement}\nwindow 512\nso far: fixed\nnote 1-3 fixed"
        for path, text in files.items():
            lines = source_lines(text)
            yield "\n".join(f"{n}: {line}" for n, line in enumerate(lines, start=1))
            yield f"{path} {len(lines)} lines\n{path}:1: def"
        for edit in hidden.gold_edits:
            edited = {"path": edit.path, "start": 1, "end": 2, "text": edit.text}
            yield json.dumps({"name": "edit_lines", "arguments": edited})
            yield "edited\n[o1 12/345]\n1 passed, 2 failed\n[o1 evicted m0.py:1-3]"
        for name in NAMES:
            yield json.dumps({"name": name, "arguments": {}})
        for arguments in (
            {"pattern": "def "},
            {"path": "m0.py", "start": 1, "end": 2},
            {"observation_ids": ["o1", "o2"]},
            {"summary": "fixed "},
            {"selector": ""},
            {"file": "m0.py", "facts": "fixed", "lines": "1-2"},
        ):
            yield json.dumps({"name": "x", "arguments": arguments})
        yield "Repair the code.system\nuser\nassistant\ntool\n"


def train_tokenizer(corpus: Iterable[str], *, vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Train the byte-level BPE; every byte has an id, so any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def save_tiny_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Save as a Transformers tokenizer with the shipped tiny chat template."""
    from transformers import PreTrainedTokenizerFast

    template = (Path(__file__).parent / "templates" / "tiny.jinja").read_text()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
    )
    fast.save_pretrained(folder)
