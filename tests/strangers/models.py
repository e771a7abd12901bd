"""Folders of models and adapters of strangers: good ones, changed, and loaded as stages do."""

import json
import random
import shutil
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from tests.envs.world import TOKENIZER
from tests.strangers.mutations import add_file, change_file, clear, draw_value, dump, pickled, put
from train.config.load import load_settings
from train.config.settings import Settings
from train.models.chat_templates import set_run_template
from train.models.model import (
    add_adapter,
    base_source,
    chat_format,
    load_adapter,
    load_base,
    load_tokenizer,
    random_tiny,
)
from train.models.tiny_tokenizer import save_tiny_tokenizer
from train.rollouts.policy_sources import check_adapter

_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"
_LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}"
_TEMPLATES = (
    _LOOPS,
    "{% if messages[-1].role == 'tool' %}" + _LOOPS + "{% endif %}{{ messages }}",
    "{{ 'x' * 10**10 }}",
    "{{ 10**10**8 }}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch {ran}') }}",
    "{{ (messages * 999999) | tojson }}",
    "{{ strftime_now(messages) }}",
    "{% include '/etc/passwd' %}",
    "{{ " + "(" * 9_000,
    "{% for m in messages %}{{ [m.content, 'x'] | random }}{{ m.tool_calls }}{% endfor %}",
    "\ud800",
)
_HEADS: tuple[Any, ...] = (
    {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 16]}},
    {"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}},
    {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 16]}},
    {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
    {"a": {"dtype": "evil", "shape": [4], "data_offsets": [0, 16]}},
    {"a": {"dtype": "F32", "shape": [1] * 9_000, "data_offsets": [0, 4]}},
    {f"a{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(50_000)},
    "@deep",
    [],
)
_REMOTE = {
    "AutoConfig": "evil.Evil",
    "AutoModelForCausalLM": "evil.Evil",
    "AutoTokenizer": ["evil.Evil", "evil.Evil"],
}


def settings_of(base: str, folder: Path) -> Settings:
    """Return the settings of a run on a base, all of whose files lie in `folder`."""
    places = [f"--run.{name}={folder / name}" for name in ("dir", "cache")]
    tiny = "[64, 1]" if base == "tiny" else "[256, 4]"
    model = [f"--model.base={base}", f"--model.tiny={tiny}", "--model.chat_template=null"]
    return load_settings(_CONFIG, [*places, *model])


def write_good(folder: Path) -> None:
    """Write a model and an adapter on it: `folder/model`, `folder/adapter`."""
    save_tiny_tokenizer(TOKENIZER, folder / "model")
    settings = settings_of("tiny", folder)
    base = random_tiny(settings, load_tokenizer(folder / "model"))
    base.save_pretrained(folder / "model")
    settings = settings_of(str(folder / "model"), folder)
    add_adapter(base, settings).save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()


def make(rng: random.Random, good: Path, folder: Path, outside: Path) -> str:
    """Make a hostile model, or an adapter beside a good one; returns what was done."""
    shutil.copytree(good, folder)
    part = folder / rng.choice(["model", "model", "adapter"])
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        draw = rng.random()
        if draw < 0.3:
            done.append(_change_config(rng, part, outside))
        elif draw < 0.4:
            done.append(_change_template(rng, folder / "model", outside))
        elif draw < 0.5:
            done.append(_change_weights(rng, part, outside))
        elif draw < 0.6:
            done.append(add_file(rng, part, outside))
        else:
            files = sorted(path for path in part.iterdir() if path.is_file())
            if files:
                done.append(change_file(rng, rng.choice(files), outside))
    return f"{part.name}: {'; '.join(done)}"


def _change_config(rng: random.Random, part: Path, outside: Path) -> str:
    """Set something at the top of a file of settings: a name that it has, or one that does much."""
    names = [path for path in part.glob("*config.json") if path.is_file() and not path.is_symlink()]
    if not names:
        return "nothing"
    path = rng.choice(sorted(names))
    try:
        config = json.loads(path.read_bytes() if path.stat().st_size < 2**20 else b"")
        lure: dict[str, Any] = {
            "auto_map": _REMOTE,
            "num_hidden_layers": rng.choice([0, 10**6, 10**12]),
            "vocab_size": rng.choice([0, 10**9, 10**15]),
            "layer_types": ["full_attention"] * 10**5,
            "tokenizer_class": "evil.Evil",
            "tokenizer_file": str(outside / "secret.json"),
            "vocab_file": str(outside / "secret.json"),
            "gguf_file": "../../outside/secret.json",
            "fast_tokenizer_files": ["tokenizer.9.9.9.json", "../../outside/tokenizer.4.0.0.json"],
            "configuration_files": ["config.4.0.0.json", "../../outside/secret.json"],
            "transformers_weights": "../../outside/secret.safetensors",
            "quantization_config": {"quant_method": "gptq", "bits": 4, "modules": str(outside)},
            "_attn_implementation": "evil/kernel",
            "attn_implementation": "evil/kernel",
            "base_model_name_or_path": str(outside),
            "auto_mapping": {"parent_library": "evil", "base_model_class": "Evil"},
            "megatron_config": {"a": 1},
            "target_modules": "(a|a|b)*" * 9 + "c",
            "corda_config": {"cache_file": str(outside / "secret.txt")},
            "init_lora_weights": "corda",
            "modules_to_save": ["lm_head"],
            "r": rng.choice([0, -1, 10**9, "8"]),
        }
        name = rng.choice([*lure, *config])
        config[name] = (
            lure[name] if name in lure and rng.random() < 0.7 else draw_value(rng, outside)
        )
        put(path, dump(config))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return change_file(rng, path, outside)
    return f"{name} in {path.name}"


def _change_template(rng: random.Random, part: Path, outside: Path) -> str:
    text = rng.choice(_TEMPLATES).replace("{ran}", str(outside / "ran"))
    (part / "additional_chat_templates").mkdir(exist_ok=True)
    name = rng.choice(["chat_template", "chat_template", "additional_chat_templates/tool_use"])
    put(part / f"{name}.jinja", text)
    return f"template {text[:30]!r}"


def _change_weights(rng: random.Random, part: Path, outside: Path) -> str:
    """Change the head of the weights, or have others taken in their place."""
    weights = next(iter(sorted(part.glob("*model.safetensors"))), part / "model.safetensors")
    how = rng.choice(["head", "head", "length", "pickle", "index"])
    if how == "head":
        head = dump(rng.choice(_HEADS)).encode()
        put(weights, struct.pack("<Q", len(head)) + head + bytes(16))
    elif how == "length":
        put(weights, struct.pack("<Q", rng.choice([0, 2**40, 2**64 - 1])) + b"{}")
    else:
        clear(weights)
        name = weights.name.replace(".safetensors", ".bin").replace(
            "model.bin", "pytorch_model.bin"
        )
        name = name.replace("adapter_pytorch_model", "adapter_model")
        put(part / name, pickled(outside))
        if how == "index":
            shards = [name, "../../outside/secret.safetensors", "/etc/x.safetensors", 7, None]
            index = {"metadata": {}, "weight_map": {"a": rng.choice(shards)}}
            put(part / "model.safetensors.index.json", json.dumps(index))
    return f"weights: {how}"


def open_it(folder: Path) -> None:
    """Load tokenizer, template, base and adapter as the stages of a run do."""
    settings = settings_of(str(folder / "model"), Path.cwd())
    tokenizer = load_tokenizer(base_source(settings))
    set_run_template(tokenizer, settings, now=datetime(2026, 1, 1))
    chat = chat_format(tokenizer, settings)
    chat.prefix(system="Repair.", user="What is broken?")
    chat.surround_results(["read_lines", "search"])
    base = load_base(settings)
    check_adapter(settings, folder / "adapter")
    policy = load_adapter(base, folder / "adapter", trainable=False)
    with torch.inference_mode():
        policy(input_ids=torch.tensor([[1, 2, 3]]))
