"""Where the weights of an evaluated policy come from: checked before anything is played.

An adapter (a folder with adapter_config.json: `grpo/adapter`, a checkpoint, an export) acts on this
run's base, on which it must have been trained. A model (a folder with config.json and weights, a
fetched one, a hub id) acts alone; where its vocabulary is another one, with its own tokenizer. Of a
model behind an endpoint nothing is known: prompts are made and counted by the run's tokenizer.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
from peft import get_peft_model, get_peft_model_state_dict
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from envs.errors import UserError
from envs.files import hash_files
from train.config.policy_names import PolicyEntry
from train.config.settings import Settings
from train.models.adapters import WEIGHTS, read_adapter_config
from train.models.chat_templates import template_text
from train.models.model import (
    base_source,
    empty_model,
    load_adapter,
    load_base,
    load_tokenizer,
    random_tiny,
)
from train.models.model_folder import naming_faults
from train.models.vocabulary import new_tokenizer, saved_tokenizer
from train.models.weight_files import missing_weights, read_shapes
from train.stages.run_dir import COMMANDS, stage_dir

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]+)")
_MAX_DEPTH = 4  # folders below a run's, down to grpo/checkpoints/checkpoint-40


@dataclass(frozen=True)
class PolicySource:
    """What acts for an entry.

    Attributes:
        kind: A script, one of the run's policies, an adapter on the run's base, a whole model, or
            one behind an endpoint.
        settings: Those under which base and tokenizer are found, and it is played: of a model other
            than the run's.
        digest: Of the weights; what is played anew where it changed.
        adapter: Its folder; None where the base acts alone.
        is_random: The base is the tiny model before its training.
    """

    kind: Literal["script", "of_the_run", "adapter", "model", "endpoint"]
    settings: Settings
    digest: str = ""
    adapter: Path | None = None
    is_random: bool = False

    def load_tokenizer(self, *, now: datetime) -> PreTrainedTokenizerFast:
        """Return the tokenizer of its prompts: a model's own if its vocabulary is another one.

        One that no stage has saved yet is made, for a conversation on the day of `now`.
        """
        if self.kind == "model":
            return _own_tokenizer(self.settings, base_source(self.settings), now=now)
        found = saved_tokenizer(self.settings) or new_tokenizer(self.settings, now=now)
        if self.kind == "endpoint":
            marks = [AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")]
            found.add_tokens(marks, special_tokens=True)  # nothing new to most tokenizers
            found.chat_template = template_text("chatml")
        return found

    def load_model(self, tokenizer: PreTrainedTokenizerFast) -> Any:
        """Load the model, for acting."""
        if self.is_random:
            return random_tiny(self.settings, tokenizer)  # which may not be saved anywhere
        base = load_base(self.settings)
        return base if self.adapter is None else load_adapter(base, self.adapter, trainable=False)

    def load_for_acting(self, tokenizer: PreTrainedTokenizerFast) -> Any:
        """Load the model onto the GPU if there is one."""
        model = self.load_model(tokenizer)
        if torch.cuda.is_available() and not self.settings.model.load_in_4bit:  # they load there
            model.to("cuda")
        return model


def find_source(settings: Settings, entry: PolicyEntry, *, now: datetime) -> PolicySource:
    """Find and check what acts for an entry; the stages that it names must be finished.

    Raises:
        UserError: There is nothing of the kind, or it does not fit this run's base.
    """
    if entry.kind == "script":
        return PolicySource("script", settings)
    if entry.kind == "of_the_run":
        return _source_of_the_run(settings, entry.policy)
    if entry.kind == "endpoint":
        return PolicySource("endpoint", _with_tools(settings), digest=entry.policy)
    with naming_faults(entry.policy):
        return _source_elsewhere(settings, entry.policy, now=now)


def find_own_policy(
    settings: Settings, folder: Path, *, now: datetime
) -> tuple[PolicySource, PreTrainedTokenizerFast]:
    """Find a policy to sample demonstrations from, and the tokenizer that it was trained with.

    The tiny model's base and tokenizer are of the run that trained it: the base is named in the
    adapter's own file, the tokenizer lies beside it or in that run.

    Raises:
        UserError: There is no such policy, or it does not speak the tokens of these settings.
    """
    named = str(folder) if "/" in str(folder) else f"./{folder}"
    base, is_tiny, mine = folder, settings.model.kind == "tiny", settings
    if is_tiny and (folder / "adapter_config.json").is_file():
        written = read_adapter_config(folder).base_model_name_or_path or ""
        base = folder / written if written.startswith("..") else Path(written)
        settings = _with_base(settings, str(base), base)
    with naming_faults(named):
        source = _source_elsewhere(settings, named, now=now)
    if is_tiny:
        return source, _find_tokenizer(folder, base, base.parent.parent / "demos" / "tokenizer")
    tokenizer = new_tokenizer(mine, now=now)
    if source.load_tokenizer(now=now).get_vocab() != tokenizer.get_vocab():
        raise UserError(
            "a policy speaks other tokens than this run's base",
            got=f"{folder}; model.base {mine.model.base}",
            remedy="name its base in model.base",
        )
    return source, tokenizer


def _find_tokenizer(*places: Path) -> PreTrainedTokenizerFast:
    for place in places:
        if (place / "tokenizer.json").is_file():
            return load_tokenizer(place)
    raise UserError(
        "the tokenizer of a policy is not there",
        got=f"no tokenizer.json in {', '.join(map(str, places))}",
        remedy="name a policy in the folder of its run, or put its tokenizer beside it",
    )


def _source_of_the_run(settings: Settings, policy: str) -> PolicySource:
    """Return one of the run's; the tiny model's base is random, and SFT trains it whole."""
    is_tiny = settings.model.kind == "tiny"
    if policy == "base":
        digest = f"random {settings.model.tiny} {settings.run.seed}"
        digest = digest if is_tiny else hash_model(base_source(settings))
        return PolicySource("of_the_run", settings, digest, is_random=is_tiny)
    stage = stage_dir(settings, "sft" if policy == "sft" else "grpo")
    adapter = None if policy == "sft" and is_tiny else stage.path / "adapter"
    return PolicySource("of_the_run", settings, str(stage.digest()), adapter)


def _source_elsewhere(settings: Settings, policy: str, *, now: datetime) -> PolicySource:
    folder = Path(policy).expanduser()
    if (folder / "adapter_config.json").is_file():
        check_adapter(settings, folder)
        digest = _hash(folder / "adapter_config.json", _find_weights(folder))
        digest = f"{digest} on {hash_model(base_source(settings))}"
        return PolicySource("adapter", settings, digest, folder)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(
            "evaluate.policies names a folder without an adapter or a model",
            got=policy,
            remedy=_suggest_folder(folder),
        )
    other = _with_base(settings, policy, folder)
    source = base_source(other)
    _check_vocabulary(other, source, now=now)
    return PolicySource("model", other, hash_model(source))


def _with_tools(settings: Settings) -> Settings:
    """Return the settings with tools in the prompt: no warm start has told an endpoint's model."""
    if settings.prompt.tools != "none":
        return settings
    prompt = settings.prompt.model_copy(update={"tools": "brief"})
    return settings.model_copy(update={"prompt": prompt})


def check_adapter(settings: Settings, folder: Path) -> None:
    """Refuse an adapter that was not trained on this run's base, or that is damaged.

    Raises:
        UserError: It was not, or it is.
    """
    _find_weights(folder)
    named = read_adapter_config(folder).base_model_name_or_path or ""
    theirs = Path(named).expanduser() if not named.startswith("../") else folder / named
    ours = base_source(settings)
    if named and not _same_base(str(theirs), ours):
        raise UserError(
            "an adapter of evaluate.policies was trained on another base",
            got=f"{folder}: {named}; this run's base is {ours}",
            remedy="evaluate it with the --config (and --run.name) of the run that trained it",
        )
    wrong = _find_misfit(ours, folder)
    if wrong:
        raise UserError(
            "an adapter of evaluate.policies does not fit this run's base",
            got=f"{folder}: {wrong}",
            remedy="name one that was trained on it, with the adapter_config.json saved beside it",
        )


def hash_model(source: str) -> str:
    """Return what tells a model's weights from others: of a hub id the name, with its commit."""
    if cached := _SNAPSHOT.search(source):
        owner, name, commit = cached.groups()
        return f"{owner}/{name}@{commit}"
    folder = Path(source)
    if not folder.is_dir():
        return source
    weights = [p for pattern in ("*.safetensors", "*.bin") for p in sorted(folder.glob(pattern))]
    return _hash(folder / "config.json", *weights)


def _same_base(theirs: str, ours: str) -> bool:
    """Tell whether two sources are one base; one that is no longer there is left to the shapes."""
    if Path(theirs).is_dir() and Path(ours).is_dir():
        if Path(theirs).resolve() == Path(ours).resolve():
            return True
        return not missing_weights(Path(theirs)) and hash_model(theirs) == hash_model(ours)
    names = [_hub_name(source) for source in (theirs, ours)]
    return None in names or names[0] == names[1]


def _hub_name(source: str) -> str | None:
    if cached := _SNAPSHOT.search(source):
        return f"{cached[1]}/{cached[2]}"
    return source if _HUB_ID.fullmatch(source) and not Path(source).parent.is_dir() else None


def _find_weights(folder: Path) -> Path:
    path = folder / WEIGHTS
    if not path.is_file():
        shards = "; DeepSpeed's shards are none" if list(folder.glob("global_step*")) else ""
        raise UserError(
            "an adapter of evaluate.policies has no weights",
            got=f"no {path}{shards}",
            remedy="name a folder that holds adapter_model.safetensors too",
        )
    return path


def _with_base(settings: Settings, base: str, folder: Path) -> Settings:
    """Return the settings with another base: a folder, a fetched model, or a hub id."""
    if folder.is_dir():
        base = str(folder.resolve())
    elif "/" in base and (not _HUB_ID.fullmatch(base) or folder.parent.is_dir()):
        raise UserError(
            "evaluate.policies names a folder that is not there",
            got=base,
            remedy=_suggest_folder(folder),
        )
    return settings.model_copy(
        update={"model": settings.model.model_copy(update={"base": base})},
    )


def _suggest_folder(folder: Path) -> str:
    """Return what to name instead: an adapter or a model below the folder, or beside it.

    Nothing deeper is looked at, lest a typing error reads a whole disk.
    """
    there = folder if folder.is_dir() else folder.absolute().parent
    depths = range(_MAX_DEPTH) if there.parent != there else ()
    for name in ("adapter_config.json", "config.json"):
        for depth in depths:
            if near := sorted(there.glob(f"{'*/' * depth}{name}")):
                return f"name the folder itself, such as {near[0].parent}"
    return f"name a folder with adapter_config.json or config.json; {COMMANDS['grpo']} makes one"


def _find_misfit(base: str, folder: Path) -> str:
    """Return the first tensor that base and adapter_config.json do not call for; '' if all fit."""
    peft = read_adapter_config(folder)
    peft.inference_mode = True
    empty = empty_model(base)
    try:
        with torch.device("meta"):
            model = get_peft_model(empty, peft)
    except ValueError as error:  # target modules that the base does not have
        return str(error).partition("\n")[0]
    wanted = {name: list(tensor.shape) for name, tensor in get_peft_model_state_dict(model).items()}
    found = read_shapes(_find_weights(folder))
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            return f"{name} is {found.get(name, 'missing')}, not {wanted.get(name, 'there')}"
    return ""


def _check_vocabulary(settings: Settings, source: str, *, now: datetime) -> None:
    size = empty_model(source).config.vocab_size
    tokens = len(_own_tokenizer(settings, source, now=now))
    if tokens > size:
        raise UserError(
            "a model of evaluate.policies has fewer tokens than its prompts",
            got=f"{source}: {size} in the model, {tokens} in the tokenizer",
            remedy="put the tokenizer that it was trained with into its folder",
        )


def _own_tokenizer(settings: Settings, source: str, *, now: datetime) -> PreTrainedTokenizerFast:
    """Return a model's tokenizer; the run's where a folder holds none, or one of the same tokens.

    The latter because Transformers splits words otherwise than the tiny model's file says where
    that lies beside a Qwen2 config (`train/export/export.py`).
    """
    ours = saved_tokenizer(settings)
    if ours and Path(source).is_dir() and not (Path(source) / "tokenizer.json").is_file():
        return ours
    own = new_tokenizer(settings, now=now)
    return ours if ours and ours.get_vocab() == own.get_vocab() else own


def _hash(*paths: Path) -> str:
    return hash_files({path.name: path for path in paths})
