"""The model card of an export: base, licence, how to serve it, what was measured.

Tests: tests/train/export/test_export.py.
"""

from pathlib import Path

from huggingface_hub import ModelCard

from rewards.metrics import format_row
from train.config.settings import Settings
from train.models.chat_templates import is_fixed, own_template
from train.models.fetch import PINNED_MODELS
from train.models.hub import licence_on_hub, save_card
from train.models.model import base_source, chat_format, load_tokenizer, run_tokenizer
from train.stages.run_dir import cache_dir, model_dir, stage_dir

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank accepts, besides 1
NOT_EVALUATED = "Not evaluated yet: `tightrope evaluate --config FILE`, then export again."

BODY = """# {name}

{what} (rank {rank}, alpha {alpha:g}) that repairs Python code while holding as little
context as possible. Trained by Tightrope: warm start on executed demonstrations, then
multi-segment GRPO.

## Base

{base}

Licence of the base: {licence}

## Serve

```bash
{serve}
```

Then ask for the model `{name}`. Prompts, tools and the window are those of the run: the model
expects them (`prompt` and `context` in config.yaml beside this folder).
{template}

## Evaluation

Held-out tasks ({source}, {split} split), 95 % intervals from resampling tasks, of this one trained
policy (one training seed). Tokens per solved: prompt and sampled tokens of all turns of all
episodes, failed ones included, over the number solved.

{table}
"""


def write_card(settings: Settings, folder: Path, *, export_dir: Path, merged: bool = False) -> None:
    """Write the card.

    Args:
        folder: The adapter's, or that of the merged weights, where README.md is written.
        export_dir: Where `adapter`, `base` and `merged` will lie; the line for vLLM names it.
        merged: Whether the card is that of the merged weights.
    """
    licence = base_licence(settings)
    said = licence or "unknown here; read the base's own card before you pass the adapter on."
    if settings.model.kind == "tiny":
        said = "none but yours: no weights of others are in it."
    text = BODY.format(
        name=settings.run.name,
        what="A base with a LoRA adapter folded in" if merged else "A LoRA adapter",
        rank=settings.model.lora_rank,
        alpha=settings.model.lora_alpha,
        base=_base_text(settings),
        licence=said,
        serve=serve_line(settings, export_dir, merged=merged),
        template=template_notes(settings),
        source=settings.tasks.source,
        split=settings.evaluate.split,
        table=evaluation_table(settings),
    )
    save_card(
        folder,
        text,
        base_model=_hub_id(settings),
        license=licence,
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-generation",
        tags=[*([] if merged else ["lora"]), "grpo", "code-repair", "tightrope"],
    )


def serve_line(settings: Settings, export_dir: Path, *, merged: bool = False) -> str:
    """Return the command that serves adapter or merged weights with vLLM, from where runs lie."""
    if merged:
        return f"vllm serve {export_dir / 'merged'} --served-model-name {settings.run.name}"
    model, adapter = settings.model, export_dir / "adapter"
    base = (
        str(model_dir(cache_dir(settings), model.base)) if model.kind == "shipped" else model.base
    )
    rank = next((each for each in VLLM_RANKS if each >= model.lora_rank), model.lora_rank)
    template = ""
    if model.kind == "tiny":
        base = str(export_dir / "base")
    elif _has_own_template(settings):  # vLLM takes the base's, which is another
        template = f" --chat-template {adapter / 'chat_template.jinja'}"
    return (
        f"vllm serve {base} --enable-lora --max-lora-rank {rank} "
        f"--lora-modules {settings.run.name}={adapter}{template}"
    )


def template_notes(settings: Settings) -> str:
    """Return what a client must know: what is fixed in the template, and where a turn ends."""
    tokenizer = load_tokenizer(run_tokenizer(settings))
    chat = chat_format(tokenizer, settings)
    said = []
    if is_fixed(own_template(tokenizer)):
        said.append(
            "`chat_template.jinja` holds the arguments and the date of the run: pass no "
            "`chat_template_kwargs`."
        )
    if tokenizer.eos_token_id != chat.eot_id:
        said.append(
            f"A turn with calls ends in `{chat.decode([chat.eot_id])}`: send `stop_token_ids: "
            f"{list(chat.stop_ids)}` with each request."
        )
    return "\n".join(said)


def base_licence(settings: Settings) -> str | None:
    """Return the licence of the base as an id of the hub, None if nothing says it."""
    kind = settings.model.kind
    if kind == "tiny":
        return None
    if kind == "hub":
        return licence_on_hub(settings.model.base)
    card = Path(base_source(settings)) / "README.md"
    return ModelCard.load(card).data.get("license") if card.is_file() else None


def evaluation_table(settings: Settings) -> str:
    """Return the rows of evaluate/summary.json as Markdown, or that there are none yet."""
    summary = stage_dir(settings, "evaluate").read_json("summary.json")
    if not summary:
        return NOT_EVALUATED
    head = "policy|sampling|tasks|episodes|pass rate|tokens per solved|peak context p50/p95"
    lines = [f"| {head.replace('|', ' | ')} |", f"|{'---|' * len(head.split('|'))}"]
    lines += [f"| {' | '.join(format_row(row)[:-1])} |" for row in summary["policies"]]
    return "\n".join(lines)


def _hub_id(settings: Settings) -> str | None:
    """Return the hub's name of the base, which a card may link; None for a model of one's own."""
    model = settings.model
    if model.kind == "shipped":
        return PINNED_MODELS[model.base].hub_id
    return model.base if model.kind == "hub" else None


def _base_text(settings: Settings) -> str:
    model = settings.model
    if model.kind == "tiny":
        return "`../base`: trained from random weights in the same run; it exists nowhere else."
    if model.kind == "shipped":
        hub_id = PINNED_MODELS[model.base].hub_id
        return (
            f"`{model.base}`: the folder that `tightrope model fetch {model.base}` makes, which is "
            f"[{hub_id}](https://huggingface.co/{hub_id}) as a quantised file holds it, expanded. "
            "On the hub's own weights the adapter was not tried."
        )
    return f"`{model.base}`"


def _has_own_template(settings: Settings) -> bool:
    """Tell whether the run's template is another than the base's, if only by a frozen date."""
    if settings.model.chat_template is not None or settings.prompt.template_args:
        return True
    path = run_tokenizer(settings) / "chat_template.jinja"
    return path.is_file() and is_fixed(path.read_text(encoding="utf-8"))
