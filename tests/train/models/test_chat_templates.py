"""Arguments and dates are written into a run's template; text_calls fits every refused one."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from envs.errors import UserError
from tests.envs.families import STEMS, base_of, template_of, tokenizer_of
from tests.envs.test_templates import CALLS, REFUSED, SYSTEM, THOUGHT, USER, WORKING, messages_of
from tests.train.config.test_load import write
from train.config.load import load_settings
from train.config.settings import Settings
from train.export.model_card import serve_line, template_notes
from train.models.chat_templates import fixed, new_chat_format, set_run_template, template_text
from train.models.model import chat_format, load_tokenizer, run_tokenizer

DAY, LATER = datetime(2026, 7, 26, 23, 59), datetime(2031, 1, 2)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text("ab'\"\\"), inner)
)


def settings_of(tmp_path: Path, *arguments: str) -> Settings:
    config = write(tmp_path, "run: {name: x}\nmodel: {base: some/model}\n")
    return load_settings(config, list(arguments))


def rendered(template: str, **variables: Any) -> str:
    messages = [{"role": "user", "content": USER}]
    texts, _ = render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=True, **variables
    )
    return str(texts[0])


@given(JSON)
def test_any_plain_value_reaches_the_template(value: Any) -> None:
    text = fixed(
        "  \n{{ value | tojson }}\n {% if value is defined %}!{% endif %}",
        {"value": value},
        now=DAY,
    )
    before, _, shown = rendered(text).partition("\n")
    assert before == "  "
    assert json.loads(shown.rsplit("\n", 1)[0]) == value
    assert shown.endswith("\n!")  # white space at the template's start and lines' starts is its own


@pytest.mark.parametrize("stem", STEMS)
def test_a_template_without_arguments_and_dates_stays_as_it_is(stem: str) -> None:
    text = template_of(stem)
    assert (fixed(text, {}, now=DAY) == text) == ("strftime_now" not in text)


@pytest.mark.parametrize("stem", [stem for stem in WORKING if "strftime_now(" in template_of(stem)])
def test_dates_stay_those_of_the_start(stem: str) -> None:
    tokenizer = tokenizer_of(stem)
    text = fixed(template_of(stem), {}, now=DAY)
    chat = new_chat_format(tokenizer, text)
    prompt = chat.decode(chat.prefix(system=SYSTEM, user=USER))
    wanted = tokenizer.apply_chat_template(
        messages_of([], [])[:2],
        tokenize=False,
        add_generation_prompt=True,
    )
    for form in ("%Y-%m-%d", "%d %b %Y"):
        wanted = wanted.replace(datetime.now().strftime(form), DAY.strftime(form))
    assert prompt == wanted
    assert fixed(template_of(stem), {}, now=LATER) != text


@pytest.mark.parametrize(
    "stem", [stem for stem in WORKING if "enable_thinking" in template_of(stem)]
)
def test_arguments_reach_the_prompt(stem: str) -> None:
    if "enable_thinking" not in used(template_of(stem)):
        pytest.skip("named in a comment alone")
    tokenizer = tokenizer_of(stem)
    for thinking in (False, True):
        text = fixed(template_of(stem), {"enable_thinking": thinking}, now=DAY)
        chat = new_chat_format(tokenizer, text)
        ids = chat.prefix(system=SYSTEM, user=USER)
        wanted = tokenizer.apply_chat_template(
            messages_of([], [])[:2],
            return_dict=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        if thinking:  # a thought may be open there
            assert chat.decode(ids).startswith(tokenizer.decode(wanted))
        else:
            assert list(ids) == wanted


def used(template: str) -> str:
    """Return what `fixed` says that a template takes."""
    with pytest.raises(UserError) as caught:
        fixed(template, {"no_such_argument": 1}, now=DAY)
    return caught.value.remedy


def test_an_unknown_argument_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"enable_thinkin\).*mean 'enable_thinking'"):
        fixed(template_of("qwen3"), {"enable_thinkin": False}, now=DAY)
    with pytest.raises(UserError, match="this template takes no arguments"):
        fixed(template_of("qwen2_5"), {"enable_thinking": False}, now=DAY)
    for ours in ("messages", "tools", "add_generation_prompt", "bos_token"):
        with pytest.raises(UserError, match="names what the chat template does not use"):
            fixed(template_of("llama3_2"), {ours: 1}, now=DAY)


@pytest.mark.parametrize(
    "text",
    [
        "{% set f = '%Y' %}{{ strftime_now(f) }}",
        "{% set today = strftime_now %}\n{{ today('%Y') }}",
        "{% macro date(now=strftime_now) %}{{ now('%Y') }}{% endmacro %}{{ date() }}",
        "{{ [strftime_now][0]('%Y') }}{{ strftime_now('%Y') }}",
        "{{ strftime_now(format='%Y') }}",
    ],
)
def test_a_date_without_a_fixed_format_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="cannot be frozen"):
        fixed(text, {}, now=DAY)


@pytest.mark.parametrize("stem", [stem for stem in STEMS if base_of(stem) in REFUSED])
def test_the_remedy_text_calls_works_for_every_refused_template(stem: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(stem)
    set_run_template(tokenizer, settings_of(tmp_path, "--model.chat_template=text_calls"), now=DAY)
    chat = new_chat_format(tokenizer, str(tokenizer.chat_template))
    ids = chat.prefix(system=SYSTEM, user=USER)
    text = chat.decode(ids)
    assert text.count(SYSTEM) == 1 and text.count(USER) == 1
    results = ["[o1 3/99]\nready.", "[o2 9/90]\nends"]
    parts = chat.surround_results([call.name for call in CALLS])
    whole = [*ids, *chat.call_ids(CALLS), *parts.head, *chat.encode_result(results[0])]
    whole += [*parts.separators[0], *chat.encode_result(results[1]), *parts.tail]
    wanted = tokenizer.apply_chat_template(
        messages_of(CALLS, results), tokenize=False, add_generation_prompt=True
    )
    wanted = tokenizer.decode(tokenizer.encode(wanted, add_special_tokens=False))
    assert THOUGHT.sub("", chat.decode(whole)) == THOUGHT.sub("", wanted)


def test_the_settings_choose_template_and_arguments(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("qwen3")
    own = tokenizer.chat_template
    set_run_template(tokenizer, settings_of(tmp_path), now=DAY)
    assert tokenizer.chat_template == own
    given = ("--prompt.template_args.enable_thinking=false",)
    set_run_template(tokenizer, settings_of(tmp_path, *given), now=DAY)
    chat = new_chat_format(tokenizer, str(tokenizer.chat_template))
    assert chat.decode(chat.prefix(system="", user="")).endswith("<think>\n\n</think>\n\n")
    set_run_template(tokenizer, settings_of(tmp_path, "--model.chat_template=chatml"), now=DAY)
    assert "enable_thinking" not in str(tokenizer.chat_template)


def test_a_run_resumed_on_another_day_shows_the_day_of_its_start(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("llama3_2")
    settings = settings_of(tmp_path, f"--run.dir={tmp_path}")
    set_run_template(tokenizer, settings, now=DAY)
    tokenizer.save_pretrained(str(run_tokenizer(settings)))
    chat = chat_format(load_tokenizer(run_tokenizer(settings)), settings)
    assert "Today Date: 26 Jul 2026\n" in chat.decode(chat.prefix(system=SYSTEM, user=USER))
    line = serve_line(settings, Path("export"))
    assert line.endswith(" --chat-template export/adapter/chat_template.jinja")


def test_the_card_says_where_a_turn_ends_and_that_arguments_are_fixed(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("gptoss")
    settings = settings_of(
        tmp_path, f"--run.dir={tmp_path}", "--prompt.template_args.reasoning_effort=low"
    )
    set_run_template(tokenizer, settings, now=DAY)
    tokenizer.save_pretrained(str(run_tokenizer(settings)))
    said = template_notes(settings)
    ends = [tokenizer.convert_tokens_to_ids(each) for each in ("<|call|>", "<|return|>")]
    assert f"`<|call|>`: send `stop_token_ids: {ends}`" in said
    assert "pass no `chat_template_kwargs`" in said


def test_of_several_templates_the_one_for_tools_is_taken(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("qwen3")
    own = str(tokenizer.chat_template)
    tokenizer.chat_template = {"default": "plain", "tool_use": own}
    set_run_template(tokenizer, settings_of(tmp_path), now=DAY)
    assert tokenizer.chat_template == own


def test_templates_are_named_or_paths(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text("own")
    assert template_text(str(path)) == "own"
    assert "<|im_start|>" in template_text("chatml")
    with pytest.raises(UserError, match="one of: chatml, tiny, text_calls"):
        template_text("chatlm")


def test_the_tiny_model_takes_no_template_arguments(tmp_path: Path) -> None:
    config = write(tmp_path, "run: {name: x}\nmodel: {base: tiny}\nprompt: {tools: none}\n")
    with pytest.raises(UserError, match="tiny's own template takes none"):
        load_settings(config, ["--prompt.template_args.enable_thinking=false"])
