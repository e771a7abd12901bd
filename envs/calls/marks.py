"""The marks around tool calls and reasoning, in the words of the families that write them.

Sources: what the chat templates of TRL and Transformers render, and the parsers of vLLM and SGLang
for the families that ship none. Patterns only; `envs/calls/reader.py` reads with them.
Tests: tests/envs/calls/test_call_forms.py.
"""

import re

PREFIX = r"(?:[\w-]{1,20}:|\uff5cDSML\uff5c)?"  # minimax:, seed:, atem:, ...
_TAG = r"(?:tool_?calls?|function_?calls?|tools|tool_use|tool_code|longcat_tool_call)"
_THINK = r"(?:think|thinking|thought|reasoning|reflection)"

# Hermes, and those who wrap JSON, elements or pairs in such a tag.
_OPEN_TAG = rf"<(?i:{PREFIX}{_TAG})>"
_OPEN_SPECIAL = (
    r"\[TOOL_CALLS\]"  # Mistral
    r"|<\|python_tag\|>"  # Llama 3
    r"|\bfunctools(?=\s{0,4}\[)"  # Phi-4
    r"|<\|tool_calls?\|>"  # Phi-4-mini, Granite
    r"|<\|tool_call>"  # Gemma 4
    r"|<start_function_call>"  # FunctionGemma
    r"|<\|tool_call_start\|>"  # LFM2
    r"|<\|START_ACTION\|>"  # Command R7B
    r"|<\|action_start\|>(?:\s{0,4}<\|plugin\|>)?"  # InternLM
    r"|<\uff5ctool\u2581calls?\u2581begin\uff5c>"  # DeepSeek
    r"|<\|tool_calls_section_begin\|>|<\|tool_call_begin\|>"  # Kimi
)
OPEN = re.compile(f"{_OPEN_TAG}|{_OPEN_SPECIAL}")
CLOSE = re.compile(
    rf"</(?i:{PREFIX}(?:{_TAG}|invoke|function))>"
    r"|<\|/tool_calls?\|>|<tool_call\|>|<end_function_call>|<\|tool_call_end\|>|<\|END_ACTION\|>"
    r"|<\|action_end\|>|<\uff5ctool\u2581calls?\u2581end\uff5c>|<\|tool_calls_section_end\|>"
    r"|<\|(?:call|eom_id|eot_id|eom|eot|im_end|end)\|>"
)

# Elements: the one of the call and those of its arguments.
_QUOTED_NAME = r"name=[\"']([^\"'<>\n]{1,64})[\"']"
FUNCTION = re.compile(r"<function=[ \t]{0,4}([^<>\n]{1,64})>")
FUNCTION_ARGUMENT = re.compile(r"<parameter=[ \t]{0,4}([^<>\n]{1,64})>")
INVOKE = re.compile(rf"<{PREFIX}(?:invoke|function)\s{{1,4}}{_QUOTED_NAME}\s{{0,4}}>")
INVOKE_ARGUMENT = re.compile(
    rf"<{PREFIX}(?:parameter|param|arg)\s{{1,4}}{_QUOTED_NAME}[^<>\n]{{0,80}}>"
)
PAIR_ARGUMENT = re.compile(
    r"<(?:longcat_)?arg_key>([^<>\n]{1,64})</(?:longcat_)?arg_key>\s{0,4}<(?:longcat_)?arg_value>"
)

# One of these outside a call: its call is broken, and its text may hold anything.
_ARGUMENT = rf"</?(?:{PREFIX}parameter[=\s>]|(?:longcat_)?arg_(?:key|value)>)"

# A name in front of its arguments: Mistral, Kimi, DeepSeek, Gemma, Hunyuan.
NAME = re.compile(r"(call:|functions\.)?([A-Za-z_][\w.-]{0,63})(?::[0-9]{1,6})?")
SEPARATOR = "<\uff5ctool\u2581sep\uff5c>"
BETWEEN = re.compile(
    r"\s{0,4}(?:\[CALL_ID\]\w{0,64})?"
    rf"(\[ARGS\]|<\|tool_call_argument_begin\|>|<\|tool_sep\|>|{SEPARATOR})?"
    r"\s{0,4}(?:```\w{0,12}\s{0,4})?"
)
# gpt-oss: the name stands in the header of the message.
HEADER = re.compile(
    r"to=(?:functions\.)?([A-Za-z_][\w.-]{0,63})\s{0,4}(?:<\|channel\|>\w{1,20})?\s{0,4}"
    r"(?:<\|constrain\|>)?\s{0,4}(?:json|code)?\s{0,4}<\|message\|>"
)

_TAGS_OF_REASONING = {  # beside <think> and its relatives
    "[THINK]": "[/THINK]",  # Mistral
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A
    "<|channel>thought": "<channel|>",  # Gemma 4
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "\u25c1think\u25b7": "\u25c1/think\u25b7",  # Kimi
}
_MESSAGES_OF_REASONING = ("<|channel|>analysis", "to=self<|message|>")  # gpt-oss, ATEM
_END_OF_MESSAGE = re.compile(r"<\|(?:end|eom|eot|return|call|start)\|>")
# Reasoning, and an answer that the model makes up: what stands in it is no call.
REASONING = re.compile(
    rf"<(?i:{PREFIX}(?:{_THINK}|tool_response|tool_result|function_results))>|"
    + "|".join(map(re.escape, (*_TAGS_OF_REASONING, *_MESSAGES_OF_REASONING)))
)
_REASONING_END = rf"</(?i:{PREFIX}{_THINK})>|" + "|".join(
    map(re.escape, _TAGS_OF_REASONING.values())
)

# Everything at which the reader looks up, and what may stand around it.
MARK = re.compile(
    rf"(?P<reasoning>{REASONING.pattern})"
    rf"|(?P<reasoning_end>{_REASONING_END})"
    rf"|(?P<open>{OPEN.pattern})"
    r"|(?P<header>\bto=(?=[A-Za-z_]))"
    rf"|(?P<element><function[= ]|<{PREFIX}invoke\s)"
    rf"|(?P<argument>{_ARGUMENT})"
    r"|(?P<python>\b[A-Za-z_]\w{0,63}\()"
    r"|(?P<fence>`{3,}|~{3,})"
    r"|(?P<json>\{(?=\s*+[\"'A-Za-z_])|\[(?=\s*+\{))"
)
FENCE_LANGUAGE = re.compile(r"[ \t]{0,4}[\w+.-]{0,20}[ \t]{0,4}(?=\n|[\[{<]|$)")
SEPARATORS = re.compile(r"(?:[\s\ufeff\u200b-\u200d\u2060,;]++|(?:`{3,}|~{3,})[\w-]{0,12})*+")
LIST = re.compile(
    r"\[(?=\s*+(?:[\[{\]]|[A-Za-z_][\w.]{0,63}\())|\{\s*+[\"']tool_calls[\"']\s*+:\s*+\["
)
# A tag or a name before arguments that the end of the turn cuts off.
CUT_OFF = re.compile(
    r"(?:[\w.:]{0,80}<[^<>]{0,80}|functions?|functions\.[\w:]{0,80}|call:?\w{0,80})\Z"
)
LIKE_A_CALL = re.compile(
    r"\{\s*+[\"']?(?:type[\"']?\s*+:\s*+[\"']function"
    r"|(?:name|tool|tool_name|tool_calls?|function|function_name|function_call|arguments"
    r"|parameters|action)[\"']?\s*+:)"
)
# The end of a call that cannot be read: a mark outside all texts.
END_OR_TEXT = re.compile(
    rf"(?P<close>{CLOSE.pattern})|(?P<open>{OPEN.pattern})|(?P<fence>`{{3,}}|~{{3,}})"
    rf"|(?P<argument>{_ARGUMENT})"
    r"|\"(?:[^\"\\]++|\\.)*+(?:\"|\\?\Z)"
    r"|[\[{:,(=]\s*+'(?:[^'\\]++|\\.)*+(?:'|\\?\Z)",
    re.DOTALL,
)


def match_end_of_reasoning(mark: str) -> re.Pattern[str]:
    """Return what ends the reasoning that `mark` begins."""
    if mark in _MESSAGES_OF_REASONING:
        return _END_OF_MESSAGE
    return re.compile(re.escape(_TAGS_OF_REASONING.get(mark, "</" + mark[1:])), re.IGNORECASE)
