"""The tokenizer of a run: as the demos stage saved it, or made here where that stage never ran.

The tiny model's is trained on the texts of the task set, so that it is the same before and after
the demos stage; a pretrained base brings its own, with the template that the settings ask for.

Tests: tests/train/config/test_every_setting.py.
"""

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from envs.tasks.store import TaskStore
from train.config.settings import Settings
from train.models.chat_templates import set_run_template
from train.models.model import base_source, load_tokenizer, run_tokenizer
from train.models.tiny_tokenizer import save_tiny_tokenizer, task_corpus, train_tokenizer
from train.stages.run_dir import tasks_dir


def saved_tokenizer(settings: Settings) -> PreTrainedTokenizerFast | None:
    """Return the tokenizer that all stages of a run share; None if it was not saved yet."""
    folder = run_tokenizer(settings)
    return load_tokenizer(folder) if (folder / "tokenizer.json").is_file() else None


def new_tokenizer(settings: Settings, *, now: datetime) -> PreTrainedTokenizerFast:
    """Make the tokenizer of a run: the base's own, or one trained on the task set.

    Args:
        now: The date in its chat template, for good.
    """
    if settings.model.kind == "tiny":
        with TemporaryDirectory() as folder:
            save_tiny_tokenizer(_trained(settings), Path(folder))
            return load_tokenizer(folder)
    tokenizer = load_tokenizer(base_source(settings))
    set_run_template(tokenizer, settings, now=now)
    return tokenizer


def _trained(settings: Settings) -> Tokenizer:
    """Train on the train split; on all there is, where that is empty: nothing is learned then."""
    store = TaskStore.open(tasks_dir(settings))
    has_train = any(task.split == "train" for task in store.public.values())
    tasks = store.split("train") if has_train else list(store.public.values())
    return train_tokenizer(
        task_corpus((task, store.hidden[task.id], store.workspace(task)) for task in tasks)
    )
