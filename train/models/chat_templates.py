"""The chat template of a run: chosen, its arguments set and its dates frozen, all in its text.

`prompt.template_args` and today's date are written in front of the template as Jinja assignments
when the run's tokenizer is saved. So every stage, a run resumed on another day, the exported
adapter and whatever serves it render the same prompt.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from envs.errors import UserError, suggest
from envs.rendering import ChatFormat
from envs.templates.render_process import RenderError, TemplateLimitError, shared_process
from train.config.settings import Settings

TEXT_CALLS = "text_calls"  # train/models/text_calls.jinja in front of the own template
_TEMPLATES = Path(__file__).parent / "templates"
_MARK = "{# written in front when the run began #}\n"
_NOT_ARGUMENTS = {
    *("messages", "tools", "documents", "add_generation_prompt", "strftime_now", "raise_exception"),
    *("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"),
    *("namespace", "range", "dict", "cycler", "joiner", "lipsum"),
}


def set_run_template(
    tokenizer: PreTrainedTokenizerFast, settings: Settings, *, now: datetime
) -> None:
    """Give `tokenizer` the template that the settings ask for, with arguments and dates fixed.

    Raises:
        UserError: `model.chat_template` or a name in `prompt.template_args` is none.
    """
    name = settings.model.chat_template
    if name == TEXT_CALLS:
        text = _with_text_calls(tokenizer)
    elif name:
        text = template_text(name)
    else:
        text = own_template(tokenizer)
    tokenizer.chat_template = fixed(text, settings.prompt.template_args, now=now)


def own_template(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the tokenizer's own template; of several under names that for tools.

    Raises:
        UserError: It has none.
    """
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("tool_use") or own.get("default")
    if own:
        return str(own)
    raise UserError(
        "the tokenizer has no chat template",
        remedy="set model.chat_template to chatml or to the path of a Jinja template",
    )


def template_text(name_or_path: str) -> str:
    """Read `model.chat_template`: the name of a shipped template, or a path.

    Raises:
        UserError: Neither exists.
    """
    for path in (_TEMPLATES / f"{name_or_path}.jinja", Path(name_or_path)):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    shipped = ", ".join(sorted(path.stem for path in _TEMPLATES.glob("*.jinja")))
    raise UserError(
        "model.chat_template names no template",
        got=name_or_path,
        remedy=f"use a path, or one of: {shipped}, {TEXT_CALLS}",
    )


def new_chat_format(
    tokenizer: PreTrainedTokenizerFast,
    template: str,
    *,
    tools: Sequence[Callable[..., object]] = (),
) -> ChatFormat:
    """Return the chat format of a template for a Transformers tokenizer."""
    return ChatFormat(
        tokenizer.backend_tokenizer,
        template=template,
        special_tokens=tokenizer.special_tokens_map,
        tools=tools,
    )


def fixed(template: str, arguments: Mapping[str, Any], *, now: datetime) -> str:
    """Write arguments, and every date that the template prints, in front of it.

    Args:
        template: Jinja; one that needs nothing is returned as it is.
        arguments: `prompt.template_args`.
        now: The date that stays.

    Raises:
        UserError: The template does not use an argument, or asks for dates in a way that cannot be
            frozen.
    """
    values = {name: repr(value) for name, value in arguments.items()}  # Jinja reads Python's
    try:
        facts = shared_process().describe(template)
    except RenderError as error:
        raise UserError(
            "the chat template is no Jinja template",
            got=str(error),
            remedy="set model.chat_template to chatml or to the path of another",
        ) from error
    _check_arguments(arguments, known=facts.names - _NOT_ARGUMENTS)
    if facts.unclear:
        raise UserError(
            "the chat template prints a date that cannot be frozen",
            got=f"strftime_now with no fixed format, line {facts.unclear}",
            remedy="set model.chat_template to a copy with a fixed format",
        )
    if facts.date_formats:
        dates = {each: now.strftime(each) for each in facts.date_formats}
        values["strftime_now"] = f"{dates!r}.get"
    if not values:
        return template
    return _MARK + "".join(f"{{% set {k} = {v} %}}\n" for k, v in values.items()) + template


def is_fixed(template: str) -> bool:
    """Tell whether something was written in front of a template."""
    return template.startswith(_MARK)


def _check_arguments(arguments: Mapping[str, Any], *, known: Set[str]) -> None:
    for name in arguments:
        if name in known:
            continue
        raise UserError(
            "prompt.template_args names what the chat template does not use",
            got=name,
            remedy=suggest(name, sorted(known)) if known else "this template takes no arguments",
        )


def _with_text_calls(tokenizer: PreTrainedTokenizerFast) -> str:
    """Put calls and results as text before the tokenizer's own template, as little as it takes."""
    own = own_template(tokenizer)
    before = (_TEMPLATES.parent / f"{TEXT_CALLS}.jinja").read_text(encoding="utf-8")
    last: UserError | None = None
    for parts in (False, True):
        for fold in (False, True):
            head = f"{{% set fold_system, text_parts = {fold}, {parts} %}}\n"
            try:
                new_chat_format(tokenizer, head + before + own)
            except TemplateLimitError:
                raise
            except UserError as error:
                last = error
            else:
                return head + before + own
    assert last is not None
    raise UserError(
        "the chat template takes calls and results not even as text",
        got=last.got or str(last),
        remedy="set model.chat_template to the path of a template that renders both",
    )
