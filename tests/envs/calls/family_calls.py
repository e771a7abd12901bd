"""Calls in the elements and between the marks of other families than Hermes: more of the corpus."""

from tests.envs.calls.written_calls import LINES, SUBMIT_TEXT, TEXT, Call, hermes, outline, submit

FAMILIES: dict[str, tuple[str, list[Call]]] = {
    # elements
    "Qwen3-Coder": (
        hermes("<function=outline>\n<parameter=path>\na.py\n</parameter>\n</function>"),
        [outline("xml")],
    ),
    "Qwen3-Coder, several": (
        hermes("<function=outline>\n<parameter=path>\na.py\n</parameter>\n</function>")
        + "\n"
        + hermes("<function=submit>\n</function>"),
        [outline("xml"), submit("xml")],
    ),
    "elements without the tag": (
        "Sure.\n<function=outline>\n<parameter=path>\na.py\n</parameter>\n</function>",
        [outline("xml")],
    ),
    "the function has no end": (
        hermes("<function=outline><parameter=path>a.py</parameter>"),
        [outline("xml", "unclosed")],
    ),
    "JSON in the element": ('<function=outline>{"path": "a.py"}</function>', [outline("native")]),
    "MiniMax": (
        '<minimax:tool_call>\n<invoke name="outline">\n<parameter name="path">a.py</parameter>\n'
        '</invoke>\n<invoke name="submit">\n</invoke>\n</minimax:tool_call>',
        [outline("xml"), submit("xml")],
    ),
    "function_calls and invoke": (
        '<function_calls><invoke name="outline"><parameter name="path">a.py</parameter></invoke>'
        "</function_calls>",
        [outline("xml")],
    ),
    "DeepSeek V3.2": (
        '<\uff5cDSML\uff5cfunction_calls>\n<\uff5cDSML\uff5cinvoke name="outline">\n'
        '<\uff5cDSML\uff5cparameter name="path" string="true">a.py</\uff5cDSML\uff5cparameter>\n'
        "</\uff5cDSML\uff5cinvoke>\n</\uff5cDSML\uff5cfunction_calls>",
        [outline("xml")],
    ),
    "ATEM": (
        ' to=outline<|message|><atem:function_calls>\n<atem:invoke name="outline">\n'
        '<atem:parameter name="path">a.py</atem:parameter>\n</atem:invoke>\n'
        "</atem:function_calls><|eom|><|start|>assistant to=submit<|message|>"
        '<atem:function_calls>\n<atem:invoke name="submit">\n</atem:invoke>\n'
        "</atem:function_calls>",
        [outline("xml"), submit("xml")],
    ),
    "GLM": (
        "<tool_call>read_lines\n<arg_key>path</arg_key>\n<arg_value>a.py</arg_value>\n"
        "<arg_key>start</arg_key>\n<arg_value>1</arg_value>\n</tool_call>\n"
        "<tool_call>submit\n</tool_call>",
        [("read_lines", {"path": "a.py", "start": "1"}, "xml", ()), submit("xml")],
    ),
    # other families' marks
    "Mistral": (f"[TOOL_CALLS][{TEXT}, {SUBMIT_TEXT}]", [outline("native"), submit("native")]),
    "Mistral with names in front": (
        '[TOOL_CALLS]outline[ARGS]{"path": "a.py"}[TOOL_CALLS]submit[ARGS]{}',
        [outline("native"), submit("native")],
    ),
    "Mistral with an id": (
        '[TOOL_CALLS]outline[CALL_ID]abc123def[ARGS]{"path": "a.py"}',
        [outline("native")],
    ),
    "Llama 3": (
        '{"name": "outline", "parameters": {"path": "a.py"}}',
        [outline("bare", "alias")],
    ),
    "Llama 3 with its tag": (
        '<|python_tag|>{"name": "outline", "parameters": {"path": "a.py"}}; ' + SUBMIT_TEXT,
        [outline("native", "alias"), submit("native")],
    ),
    "Llama 4": (
        '[outline(path="a.py"), submit()]',
        [outline("python"), submit("python")],
    ),
    "LFM2": (
        "<|tool_call_start|>[read_lines(path='a.py', start=1, end=3), submit()]<|tool_call_end|>",
        [("read_lines", LINES, "python", ()), submit("python")],
    ),
    "DeepSeek V3": (
        "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>function"
        '<\uff5ctool\u2581sep\uff5c>outline\n```json\n{"path": "a.py"}\n```'
        "<\uff5ctool\u2581call\u2581end\uff5c>\n<\uff5ctool\u2581call\u2581begin\uff5c>function"
        "<\uff5ctool\u2581sep\uff5c>submit\n```json\n{}\n```<\uff5ctool\u2581call\u2581end\uff5c>"
        "<\uff5ctool\u2581calls\u2581end\uff5c>",
        [outline("native"), submit("native")],
    ),
    "DeepSeek V3.1": (
        "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>outline"
        '<\uff5ctool\u2581sep\uff5c>{"path": "a.py"}<\uff5ctool\u2581call\u2581end\uff5c>'
        "<\uff5ctool\u2581calls\u2581end\uff5c>",
        [outline("native")],
    ),
    "Kimi": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.outline:0"
        '<|tool_call_argument_begin|>{"path": "a.py"}<|tool_call_end|>'
        "<|tool_calls_section_end|>",
        [outline("native")],
    ),
    "Gemma 4": (
        '<|tool_call>call:outline{path:<|"|>a.py<|"|>}<tool_call|>'
        "<|tool_call>call:submit{}<tool_call|>",
        [outline("native"), submit("native")],
    ),
    "FunctionGemma": (
        "<start_function_call>call:outline{path:<escape>a.py<escape>}<end_function_call>",
        [outline("native")],
    ),
    "gpt-oss": (
        ' to=functions.outline<|channel|>commentary json<|message|>{"path": "a.py"}<|call|>',
        [outline("native")],
    ),
    "Phi-4-mini": (f"<|tool_call|>[{TEXT}]<|/tool_call|>", [outline("native")]),
    "Phi-4": (f"functools[{TEXT}]", [outline("native")]),
    "Granite": (f"<|tool_call|>[{TEXT}]", [outline("native")]),
    "InternLM": (f"<|action_start|><|plugin|>\n{TEXT}<|action_end|>", [outline("native")]),
    "Hunyuan": (
        '<tool_calls><tool_call>outline\n```json\n{"path": "a.py"}\n```\n</tool_call></tool_calls>',
        [outline("native")],
    ),
}
