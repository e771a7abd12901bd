"""Base model, tokenizer and adapter: where they come from and how they are put together.

`tiny` starts from random weights and is trained whole by SFT; that checkpoint is then its base. A
pretrained base (fetched, a folder, or a hub id) stays untouched: SFT and GRPO train one LoRA
adapter on it. Base weights are never merged in place.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from huggingface_hub import hf_hub_download
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import (
    is_bitsandbytes_available,
    is_flash_attn_2_available,
    is_flash_attn_3_available,
    is_flash_attn_4_available,
)
from transformers.utils.logging import disable_progress_bar

from envs.errors import UserError
from envs.rendering import ChatFormat
from envs.tools import Toolbox, list_tools
from train.config.settings import RunSettings, Settings
from train.models.adapters import WEIGHTS as ADAPTER_WEIGHTS
from train.models.adapters import adapted_layers, read_adapter_config
from train.models.chat_templates import new_chat_format, own_template
from train.models.hub import hub_source, shape_folder
from train.models.model_folder import ADAPTER_CONFIG, check_model, check_size, naming_faults
from train.models.weight_files import missing_weights
from train.stages.run_dir import cache_dir, model_dir, stage_dir

HEAD_FEATURES = 32  # width of one attention head of the tiny model
_DETERMINISTIC_THREADS = 2


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer from a folder or a hub id.

    Raises:
        UserError: There is no fast tokenizer, or only one with code of its own, which is not run.
    """
    try:
        with naming_faults(source, but=(ValueError,)):
            tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
    except ValueError as error:
        raise UserError(
            "the model has no tokenizer that can be loaded without code of its own",
            got=f"{source}: {' '.join(str(error).split())[:200]}",
            remedy="use a base whose tokenizer Transformers ships, with a tokenizer.json",
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            "the model has no fast tokenizer",
            got=str(source),
            remedy="use a base with a tokenizer.json",
        )
    return tokenizer


def chat_format(tokenizer: PreTrainedTokenizerFast, settings: Settings) -> ChatFormat:
    """Return what encodes prompts and scripted calls for this tokenizer and `prompt.tools`."""
    context, is_full = settings.context, settings.prompt.tools == "full"
    names = list_tools(context.strategy, context.without) if is_full else ()
    tools = [getattr(Toolbox, name) for name in names]
    return new_chat_format(tokenizer, own_template(tokenizer), tools=tools)


def base_source(settings: Settings) -> str:
    """Return the folder or hub id of the base, after making sure that a pretrained one is there.

    The base that the tiny model's adapters act on is what SFT has trained.

    Raises:
        UserError: It is not fetched, no such folder, or the hub cannot be reached.
    """
    model = settings.model
    if model.kind == "tiny":
        return str(stage_dir(settings, "sft").path / "model")
    if model.kind == "shipped":
        cache = cache_dir(settings)
        folder = model_dir(cache, model.base)
        if not (folder / "config.json").is_file():
            elsewhere = settings.run.cache != RunSettings.model_fields["cache"].default
            raise UserError(
                f"{model.base} was not fetched yet",
                got=f"no {folder}",
                remedy=f"tightrope model fetch {model.base}"
                + (f" --cache {cache}" if elsewhere else ""),
            )
        return str(folder)
    if model.kind == "folder":
        folder = Path(model.base).expanduser()
        if not (folder / "config.json").is_file():
            raise UserError(
                "model.base is no model folder",
                got=str(folder),
                remedy="name a folder that holds config.json and weights, or a hub id",
            )
        check_model(folder)
        if missing := missing_weights(folder):
            raise UserError(
                "model.base is a folder without all its weights",
                got=f"no {', '.join(missing)} in {folder}",
                remedy="put all files of the model there, weights as safetensors: pickles are not "
                "read; only --dry-run goes without the weights",
            )
        return str(folder)
    source = hub_source(model.base)
    cached = source != model.base
    config = Path(source) / "config.json" if cached else hf_hub_download(source, "config.json")
    check_model(Path(config).parent)
    return source


def tiny_config(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> Qwen2Config:
    """Return the shape of the from-scratch model."""
    width, num_layers = settings.model.tiny
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=num_layers,
        num_attention_heads=width // HEAD_FEATURES,
        num_key_value_heads=width // HEAD_FEATURES,
        tie_word_embeddings=True,
        max_position_embeddings=max(1024, settings.largest_window),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def random_tiny(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """Return the tiny model with random weights that depend on `run.seed` only."""
    torch.manual_seed(settings.run.seed)
    config = tiny_config(settings, tokenizer)
    config._attn_implementation = settings.model.attn_implementation
    return Qwen2ForCausalLM(config)


def load_base(settings: Settings) -> Any:
    """Load the untouched base: pretrained weights, or the tiny model as SFT left it."""
    disable_progress_bar()
    check_base(settings)
    source = base_source(settings)
    with naming_faults(source):
        if settings.model.kind != "tiny" and Path(source).is_dir():
            check_size(empty_model(source), Path(source))
        return AutoModelForCausalLM.from_pretrained(
            source,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=getattr(torch, settings.model.dtype),
            attn_implementation=settings.model.attn_implementation,
            **(_four_bits() if settings.model.load_in_4bit else {}),
        )


def check_base(settings: Settings) -> None:
    """Refuse a base that could not be loaded here, before anything is.

    Raises:
        UserError: It is not there; 4-bit loading or FlashAttention without a GPU or its package.
    """
    model = settings.model
    if model.kind != "tiny":
        base_source(settings)
    if model.load_in_4bit and not torch.cuda.is_available():
        raise UserError(
            "model.load_in_4bit needs a GPU",
            got="none; on a CPU bitsandbytes packs weights for inference only, so that after the "
            "first rollout no gradient passes them (measured, 0.50.2)",
            remedy="set model.load_in_4bit to false; model.dtype bfloat16 halves the memory",
        )
    if model.load_in_4bit and not is_bitsandbytes_available():
        raise UserError(
            "model.load_in_4bit needs bitsandbytes, which is not installed",
            remedy="pip install 'bitsandbytes>=0.50,<0.51', or set model.load_in_4bit to false",
        )
    flash = {
        "flash_attention_2": is_flash_attn_2_available,
        "flash_attention_3": is_flash_attn_3_available,
        "flash_attention_4": is_flash_attn_4_available,
    }
    if model.attn_implementation in flash and not flash[model.attn_implementation]():
        raise UserError(
            f"model.attn_implementation {model.attn_implementation} needs a GPU and its package",
            remedy="set model.attn_implementation to sdpa, which runs everywhere",
        )


def _four_bits() -> dict[str, Any]:
    """Return what lets Transformers load NF4 weights, each process on its own device."""
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": PartialState().device}}


def meta_base(settings: Settings, tokenizer: PreTrainedTokenizerFast | None) -> Any:
    """Build the base without weights, on the meta device, for counting."""
    if settings.model.kind == "tiny":
        assert tokenizer is not None, "the tiny model's shape depends on its tokenizer"
        with torch.device("meta"):
            return Qwen2ForCausalLM(tiny_config(settings, tokenizer))
    shape = shape_folder(settings.model)
    if shape is not None:
        check_model(shape)
    return empty_model(shape or base_source(settings))


def empty_model(source: str | Path) -> Any:
    """Build a model without weights, on the meta device, of its config.json.

    Raises:
        UserError: It describes none.
    """
    with naming_faults(source):
        return make_empty(AutoConfig.from_pretrained(source, trust_remote_code=False))


def make_empty(config: Any, *, dtype: torch.dtype | None = None) -> Any:
    """Build a model without weights, on the meta device, of a Transformers config."""
    with torch.device("meta"):  # a model that the config names could be code from the hub
        return AutoModelForCausalLM.from_config(
            config, trust_remote_code=False, attn_implementation="eager", dtype=dtype
        )


def add_adapter(base: Any, settings: Settings) -> PeftModel:
    """Put a fresh LoRA adapter (which changes nothing yet) on a base.

    Raises:
        UserError: `model.lora_targets` names a module that the base lacks.
    """
    model = settings.model
    targets: Any = model.lora_targets
    adapted_layers(base, targets)  # refused by name, where PEFT would be content with one match
    config = LoraConfig(
        r=model.lora_rank,
        lora_alpha=model.lora_alpha,
        lora_dropout=0.0,
        target_modules=targets[0] if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(settings.run.seed)
    return get_peft_model(base, config)


def load_adapter(base: Any, folder: Path, *, trainable: bool) -> PeftModel:
    """Load a saved adapter onto a base.

    Raises:
        UserError: The folder holds none, or one of another base.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():  # PEFT would unpickle an adapter_model.bin
            raise UserError(
                "no adapter there", got=str(folder), remedy=f"name a folder with {name}"
            )
    config = read_adapter_config(folder)
    try:
        with naming_faults(folder, but=(RuntimeError, ValueError)):
            return PeftModel.from_pretrained(
                base, str(folder), is_trainable=trainable, config=config
            )
    except (RuntimeError, ValueError) as error:  # sizes differ, or the layers are not there
        raise UserError(
            "the adapter does not fit the base",
            got=f"{folder}: {' '.join(str(error).split())[:200]}",
            remedy="name an adapter that was trained on model.base",
        ) from error


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters."""

    total: int
    trainable: int

    @property
    def share(self) -> float:
        """Trainable share of all."""
        return self.trainable / max(1, self.total)

    def __str__(self) -> str:
        return f"{self.total:,} parameters, {self.trainable:,} trainable ({self.share:.2%})"


def count_parameters(model: Any) -> ParameterCount:
    """Count parameters; refuse a model in which nothing would be trained.

    Raises:
        UserError: No parameter is trainable.
    """
    trainable = model.num_parameters(only_trainable=True)
    if not trainable:
        raise UserError(
            "nothing would be trained: no parameter is trainable",
            remedy="check model.lora_targets",
        )
    return ParameterCount(model.num_parameters(), trainable)


def hold_adapter_in_float32(model: Any) -> None:
    """Undo that TRL's trainers round the adapter of a 4-bit base to bf16.

    A step of 2e-5 is often less than the spacing of bf16, so it would be lost.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def set_up_torch(settings: Settings) -> None:
    """Share the cores among the CPU processes; `accelerate launch` grants each only one.

    With `run.deterministic` the number of threads is fixed, for sums depend on it.
    """
    disable_progress_bar()  # of shards written and weights loaded: the stage shows its own
    deterministic = settings.run.deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    if deterministic:
        torch.set_num_threads(_DETERMINISTIC_THREADS)
    elif not torch.cuda.is_available():
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // PartialState().num_processes))


def trains_in_bf16(settings: Settings) -> bool:
    """Tell whether training passes autocast to bf16; with `auto` the machine at hand decides."""
    precision = settings.model.precision
    if precision != "auto" or settings.run.deterministic:
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def run_tokenizer(settings: Settings) -> Path:
    """Return the folder of the tokenizer that all stages of a run share."""
    return stage_dir(settings, "demos").path / "tokenizer"
