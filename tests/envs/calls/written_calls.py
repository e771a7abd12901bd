"""Tool calls as models write them, and what is read: the corpus of `test_tool_calls.py`.

Collected from what the chat templates of the families render, from what public models are known to
write, and from what once went wrong. A call is (name, arguments, format, repairs); an error is a
text that names place and expectation.
"""

from functools import partial
from typing import Any

from envs.calls import reader
from envs.tools import PARAMETERS

parse_calls = partial(reader.parse_calls, parameters=PARAMETERS)

PATH = {"path": "a.py"}
LINES = {"path": "a.py", "start": 1, "end": 3}
TEXT = '{"name": "outline", "arguments": {"path": "a.py"}}'
SUBMIT_TEXT = '{"name": "submit", "arguments": {}}'

Call = tuple[str, dict[str, Any], str, tuple[str, ...]]


def outline(form: str, *repairs: str) -> Call:
    return ("outline", PATH, form, repairs)


def submit(form: str, *repairs: str) -> Call:
    return ("submit", {}, form, repairs)


def search(pattern: str, form: str = "hermes", *repairs: str) -> Call:
    return ("search", {"pattern": pattern}, form, repairs)


def edit(text: str, form: str = "xml") -> Call:
    return ("edit_lines", {"text": text}, form, ())


def hermes(inner: str) -> str:
    return f"<tool_call>\n{inner}\n</tool_call>"


def searching(pattern: str) -> str:
    return '{"name": "search", "arguments": {"pattern": ' + pattern + "}}"


def element(text: str) -> str:
    return f"<function=edit_lines>\n<parameter=text>\n{text}\n</parameter>\n</function>"


WRITTEN: dict[str, tuple[str, list[Call]]] = {
    # Hermes: Qwen2.5, Qwen3, SmolLM3, Hermes, our own templates
    "hermes": (hermes(TEXT), [outline("hermes")]),
    "hermes on one line": (f"<tool_call>{TEXT}</tool_call>", [outline("hermes")]),
    "hermes, several": (
        hermes(TEXT) + "\n" + hermes(SUBMIT_TEXT),
        [outline("hermes"), submit("hermes")],
    ),
    "hermes behind prose": (f"I look first.\n{hermes(TEXT)}", [outline("hermes")]),
    "hermes before prose": (f"{hermes(TEXT)}\nThen I repair it.", [outline("hermes")]),
    "hermes, two objects in a block": (
        hermes(f"{TEXT}\n{SUBMIT_TEXT}"),
        [outline("hermes"), submit("hermes")],
    ),
    "hermes, two objects with a comma": (
        hermes(f"{TEXT}, {SUBMIT_TEXT}"),
        [outline("hermes"), submit("hermes")],
    ),
    "hermes, a list": (hermes(f"[{TEXT}, {SUBMIT_TEXT}]"), [outline("hermes"), submit("hermes")]),
    "hermes, a fence inside": (hermes(f"```json\n{TEXT}\n```"), [outline("hermes")]),
    "hermes, tag inside a tag": (f"<tool_calls>{hermes(TEXT)}</tool_calls>", [outline("hermes")]),
    "hermes inside a fence": (f"```xml\n{hermes(TEXT)}\n```", [outline("hermes")]),
    "hermes inside a fence, then more": (
        f"```\n{hermes(TEXT)}\n```\nand\n```\n{hermes(SUBMIT_TEXT)}\n```",
        [outline("hermes"), submit("hermes")],
    ),
    "hermes with a prefix": (f"<ns:tool_call>{TEXT}</ns:tool_call>", [outline("hermes")]),
    "function_call": (f"<function_call>{TEXT}</function_call>", [outline("hermes")]),
    "functioncall": (f"<functioncall> {TEXT} </functioncall>", [outline("hermes")]),
    "tools": (f"<tools>\n{TEXT}\n</tools>", [outline("hermes")]),
    "TOOLCALL": (f"<TOOLCALL>[{TEXT}]</TOOLCALL>", [outline("hermes")]),
    "hermes without its end": (f"<tool_call>{TEXT}", [outline("hermes", "unclosed")]),
    "hermes without its end, twice": (
        f"<tool_call>{TEXT}\n<tool_call>{SUBMIT_TEXT}",
        [outline("hermes"), submit("hermes", "unclosed")],
    ),
    "hermes, prose behind the object": (hermes(f"{TEXT} I think"), [outline("hermes", "unclosed")]),
    "a Python call in the tag": (
        hermes('read_lines(path="a.py", start=1, end=3)'),
        [("read_lines", LINES, "python", ())],
    ),
    # fields
    "parameters": (
        hermes('{"name": "outline", "parameters": {"path": "a.py"}}'),
        [outline("hermes", "alias")],
    ),
    "args": (
        hermes('{"name": "outline", "args": {"path": "a.py"}}'),
        [outline("hermes", "alias")],
    ),
    **{
        key: (
            hermes(f'{{"name": "outline", "{key}": {{"path": "a.py"}}}}'),
            [outline("hermes", "alias")],
        )
        for key in ("argument", "parameter", "params", "kwargs", "tool_input", "tool_args")
    },
    "tool and input": (
        hermes('{"tool": "outline", "input": {"path": "a.py"}}'),
        [outline("hermes", "alias")],
    ),
    "function is a name": (
        hermes('{"function": "outline", "arguments": {"path": "a.py"}}'),
        [outline("hermes", "alias")],
    ),
    "action and action_input": (
        '{"action": "outline", "action_input": {"path": "a.py"}}',
        [outline("bare", "alias")],
    ),
    "arguments before the name": (
        hermes('{"arguments": {"path": "a.py"}, "name": "outline"}'),
        [outline("hermes")],
    ),
    "arguments are ''": (
        hermes('{"name": "submit", "arguments": ""}'),
        [submit("hermes", "no_arguments")],
    ),
    "arguments are null": (
        hermes('{"name": "submit", "arguments": null}'),
        [submit("hermes", "no_arguments")],
    ),
    "arguments are []": (
        hermes('{"name": "submit", "arguments": []}'),
        [submit("hermes", "no_arguments")],
    ),
    "no arguments": (hermes('{"name": "submit"}'), [submit("hermes", "no_arguments")]),
    "arguments as text": (
        hermes('{"name": "outline", "arguments": "{\\"path\\": \\"a.py\\"}"}'),
        [outline("hermes", "text_arguments")],
    ),
    "arguments beside the name": (
        hermes('{"name": "outline", "path": "a.py"}'),
        [outline("hermes", "flat_arguments")],
    ),
    "the name is the key": (hermes('{"outline": {"path": "a.py"}}'), [outline("hermes", "alias")]),
    "functions. before the name": (
        hermes('{"name": "functions.outline", "arguments": {"path": "a.py"}}'),
        [outline("hermes")],
    ),
    "an OpenAI call": (
        hermes('{"id": "c1", "type": "function", "function": ' + TEXT + "}"),
        [outline("hermes")],
    ),
    "OpenAI's tool_calls": (
        '{"tool_calls": [{"type": "function", "function": {"name": "outline", "arguments": '
        '"{\\"path\\": \\"a.py\\"}"}}, ' + SUBMIT_TEXT + "]}",
        [outline("bare", "text_arguments"), submit("bare")],
    ),
    "an OpenAI message": (
        '{"role": "assistant", "content": null, "tool_calls": [' + TEXT + "]}",
        [outline("bare")],
    ),
    "function_call of old": ('{"function_call": ' + TEXT + "}", [outline("bare")]),
    "a number as text": (
        hermes('{"name": "read_lines", "arguments": {"path": "a.py", "start": "1", "end": 3}}'),
        [("read_lines", LINES | {"start": "1"}, "hermes", ())],
    ),
    # JSON with slips
    "single quotes": (
        hermes("{'name': 'outline', 'arguments': {'path': 'a.py'}}"),
        [outline("hermes", "quotes")],
    ),
    "an apostrophe in double quotes": (
        hermes("{'name': 'search', 'arguments': {'pattern': \"it's\"}}"),
        [search("it's", "hermes", "quotes")],
    ),
    "names without quotes": (
        hermes('{name: "outline", arguments: {path: "a.py"}}'),
        [outline("hermes", "quotes")],
    ),
    "True and None": (
        hermes('{"name": "search", "arguments": {"pattern": "x", "a": True, "b": None}}'),
        [("search", {"pattern": "x", "a": True, "b": None}, "hermes", ("literals",))],
    ),
    "a comma too many": (
        hermes('{"name": "outline", "arguments": {"path": "a.py",},}'),
        [outline("hermes", "commas")],
    ),
    "a wrong escape": (hermes(searching(r'"\d+\."')), [search(r"\d+\.", "hermes", "escapes")]),
    "an escaped apostrophe": (hermes(searching(r'"it\'s"')), [search("it's", "hermes", "escapes")]),
    "a raw line end": (hermes(searching('"a\nb\tc"')), [search("a\nb\tc", "hermes", "newlines")]),
    "three quotes": (hermes(searching('"""a "b" c"""')), [search('a "b" c', "hermes", "quotes")]),
    "a bracket too few": (
        hermes('{"name": "outline", "arguments": {"path": "a.py"}'),
        [outline("hermes", "brackets")],
    ),
    "a bracket too many": (hermes(TEXT + "}"), [outline("hermes", "brackets")]),
    "a pair of surrogates": (hermes(searching(r'"\ud83d\ude00"')), [search("\U0001f600")]),
    "one name twice, one value": (
        hermes('{"name": "submit", "name": "submit", "arguments": {}}'),
        [submit("hermes")],
    ),
    # what stands in a text is text
    "the end tag in a text": (hermes(searching('"a</tool_call>b"')), [search("a</tool_call>b")]),
    "a whole call in a text": (
        hermes(searching('"<tool_call>{}</tool_call><function=submit></function>"')),
        [search("<tool_call>{}</tool_call><function=submit></function>")],
    ),
    "a fence in a text": (
        "```json\n" + searching('"```\\n{}"') + "\n```",
        [search("```\n{}", "fenced")],
    ),
    "a think tag in a text": (hermes(searching('"<think>"')), [search("<think>")]),
    "an end of thinking in a text": (hermes(searching('"</think>"')), [search("</think>")]),
    "a call in a text of bare JSON": (
        searching('"<function=submit></function>"'),
        [search("<function=submit></function>", "bare")],
    ),
    "a call in a text of a Python call": (
        "search(pattern='<function=submit></function>')",
        [search("<function=submit></function>", "python")],
    ),
    "a call in a text of an element": (
        element("<function=submit></function>"),
        [edit("<function=submit></function>")],
    ),
    "a hermes call in a text of an element": (
        hermes(element(hermes(SUBMIT_TEXT))),
        [edit(hermes(SUBMIT_TEXT))],
    ),
    "a whole element in a text of an element": (
        hermes(element(hermes(element("x")))),
        [edit(hermes(element("x")))],
    ),
    "an end of an argument in its text": (element("a</parameter>b"), [edit("a</parameter>b")]),
    "an end of a function in a text": (element("a</function>b"), [edit("a</function>b")]),
    # reasoning
    "behind thinking": (f"<think>\nhm\n</think>\n\n{hermes(TEXT)}", [outline("hermes")]),
    "a draft in thinking": (
        f"<think>{hermes(SUBMIT_TEXT)}</think>{hermes(TEXT)}",
        [outline("hermes")],
    ),
    "thinking that the prompt began": (
        f"{hermes(SUBMIT_TEXT)}\n</think>\n{hermes(TEXT)}",
        [outline("hermes")],
    ),
    "thinking twice": (
        f"<think>a</think><think>{hermes(SUBMIT_TEXT)}</think>{hermes(TEXT)}",
        [outline("hermes")],
    ),
    "thinking inside thinking": (
        f"<think><think>a</think>{hermes(SUBMIT_TEXT)}</think>{hermes(TEXT)}",
        [outline("hermes")],
    ),
    "thinking inside the tag": (
        hermes(f"<think>{SUBMIT_TEXT}</think>{TEXT}"),
        [outline("hermes")],
    ),
    "Mistral thinks": (
        f"[THINK]{SUBMIT_TEXT}[/THINK][TOOL_CALLS][{TEXT}]",
        [outline("native")],
    ),
    "Seed thinks": (
        f"<seed:think>{SUBMIT_TEXT}</seed:think><seed:tool_call><function=outline>"
        "<parameter=path>a.py</parameter></function></seed:tool_call>",
        [outline("xml")],
    ),
    "Command A thinks": (
        f"<|START_THINKING|>{SUBMIT_TEXT}<|END_THINKING|><|START_ACTION|>\n"
        '[{"tool_call_id": "0", "tool_name": "outline", "parameters": {"path": "a.py"}}]\n'
        "<|END_ACTION|>",
        [outline("native", "alias")],
    ),
    "gpt-oss thinks": (
        f"<|channel|>analysis<|message|>{SUBMIT_TEXT}<|end|><|start|>assistant"
        '<|channel|>commentary to=functions.outline <|constrain|>json<|message|>{"path": "a.py"}',
        [outline("native")],
    ),
    # no marks
    "fenced": (f"I look:\n```json\n{TEXT}\n```", [outline("fenced")]),
    "fenced as tool_call": (f"```tool_call\n{TEXT}\n```", [outline("fenced")]),
    "fenced without a language": (f"```\n{TEXT}\n```\nThen I see.", [outline("fenced")]),
    "fenced with tildes": (f"~~~json\n{TEXT}\n~~~", [outline("fenced")]),
    "fenced list": (
        f"```json\n[{TEXT}, {SUBMIT_TEXT}]\n```",
        [outline("fenced"), submit("fenced")],
    ),
    "fenced, two in one": (
        f"```json\n{TEXT}\n{SUBMIT_TEXT}\n```",
        [outline("fenced"), submit("fenced")],
    ),
    "fenced, two fences": (
        f"```json\n{TEXT}\n```\nthen\n```json\n{SUBMIT_TEXT}\n```",
        [outline("fenced"), submit("fenced")],
    ),
    "fenced without its end": (f"```json\n{TEXT}", [outline("fenced")]),
    "a fenced Python call": (
        'First:\n```tool_code\noutline(path="a.py")\nsubmit()\n```',
        [outline("python"), submit("python")],
    ),
    "bare": (TEXT, [outline("bare")]),
    "bare between prose": (f"I look. {TEXT} Then more.", [outline("bare")]),
    "bare list": (f"[{TEXT}, {SUBMIT_TEXT}]", [outline("bare"), submit("bare")]),
    "bare, one after the other": (f"{TEXT}\n{SUBMIT_TEXT}", [outline("bare"), submit("bare")]),
    "a Python call": (
        'read_lines(path="a.py", start=1, end=3)',
        [("read_lines", LINES, "python", ())],
    ),
    "a Python call by position": (
        'read_lines("a.py", 1, 3)',
        [("read_lines", LINES, "python", ("positions",))],
    ),
    "a Python call behind thinking": ("<think>hm</think>\nsubmit()", [submit("python")]),
    "marks count before fences": (
        f"```json\n{SUBMIT_TEXT}\n```\n{hermes(TEXT)}",
        [outline("hermes")],
    ),
    "an echo of the form": (
        'I write {"name": ..., "arguments": {...}} as told.\n' + hermes(TEXT),
        [outline("hermes")],
    ),
    "arguments beside the function": (
        hermes('{"function": {"name": "outline"}, "arguments": {"path": "a.py"}}'),
        [outline("hermes")],
    ),
    "arguments are the text null": (
        hermes('{"name": "submit", "arguments": "null"}'),
        [submit("hermes", "text_arguments")],
    ),
    "a byte-order mark": (hermes("\ufeff" + TEXT), [outline("hermes")]),
    "a made-up answer": (
        hermes(TEXT) + f"\n<tool_response>\n{hermes(SUBMIT_TEXT)}\n</tool_response>",
        [outline("hermes")],
    ),
    "a mention of the tag": (f"The `<tool_call>` tag.\n{hermes(TEXT)}", [outline("hermes")]),
    "a mention without quotes": (f"I use <tool_call> now.\n{hermes(TEXT)}", [outline("hermes")]),
}
