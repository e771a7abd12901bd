"""What models write that is no call, or none that can be read: the rest of the corpus."""

from tests.envs.calls.written_calls import SUBMIT_TEXT, hermes, searching

SILENT = {  # no call at all
    "prose": "I would read the file.",
    "an open think": f"<think>I will write {hermes(SUBMIT_TEXT)}",
    "a closed think": f"<think>{hermes(SUBMIT_TEXT)}</think> Done.",
    "an open analysis": f"<|channel|>analysis<|message|>{SUBMIT_TEXT}",
    "code in a fence": '```python\nx = "<function=submit></function>"\n```',
    "data in a fence": '```json\n{"path": "<function=submit></function>"}\n```',
    "data in prose": 'It holds {"path": "<function=submit></function>", "n": 1} here.',
    "inline code": f"At the end I write `{SUBMIT_TEXT}` and stop.",
    "in quotes": 'The text "<function=submit></function>" ends it.',
    "a Python call in prose": "Then submit() hands it in.",
    "another Python call": "print(1)",
    "brackets in prose": "A set {a, b} and a list [1, 2] and {x: y}.",
    "nothing": "",
}

QUOTES: dict[str, str] = {  # a quote inside a text lacks its backslash: nothing behind it is run
    "a hermes call": hermes(searching(f'"s = "{hermes(SUBMIT_TEXT)}""')),
    "an element": hermes(searching('"s = "<function=submit></function>""')),
    "behind a comma": hermes(searching(f'"f(", x, "{hermes(SUBMIT_TEXT)}")"')),
    "in a list": hermes(f'{{"name": "search", "arguments": ["a", b, "{hermes(SUBMIT_TEXT)}"]}}'),
    "bare": searching(f'"s = "{hermes(SUBMIT_TEXT)}""'),
    "fenced": f"```json\n{searching(chr(34) + 's = ' + chr(34) + hermes(SUBMIT_TEXT))}\n```",
    "a Python call": f'search(pattern="s = "{hermes(SUBMIT_TEXT)}")',
}

ERRORS: dict[str, tuple[str, str]] = {
    "not JSON": ("<tool_call>{name: outline}</tool_call>", "line 1 column 19.*a value"),
    "quotes inside a text": (hermes(searching('"f("x")"')), "line 2 column 49.*',' or '}'"),
    "no colon": (hermes('{"name" "outline"}'), "line 2 column 9.*':'"),
    "cut off in a name": ('<tool_call>{"name": "outline", "argum', "column 32 has no end"),
    "cut off in a text": (
        '<tool_call>\n{"name": "search", "arguments": {"pattern": "abc',
        "line 2 column 45 has no end",
    ),
    "cut off behind a value": ('<tool_call>{"name": "outline"', "cut off at line 1 column 30"),
    "cut off in an element": (
        "<tool_call>\n<function=edit_lines>\n<parameter=text>\nabc",
        "line 3 column 1 has no end",
    ),
    "cut off between elements": (
        "<function=edit_lines><parameter=path>a.py</parameter>",
        "cut off at line 1 column 54",
    ),
    "cut off in a Python call": ('read_lines(path="a.p', "column 17 has no end"),
    "cut off, bare": ('{"name": "outline", "arguments": {"path": "a', "column 43 has no end"),
    "only the tag": ("<tool_call>", "cut off at line 1 column 12"),
    "an empty tag": ("<tool_call></tool_call>", 'column 12.*expected {"name"'),
    "prose in the tag": (hermes("I read it"), 'line 2 column 1.*expected {"name"'),
    "a list of numbers": (hermes("[1]"), 'line 2 column 1.*expected {"name"'),
    "no name": (hermes('{"arguments": {}}'), 'line 2 column 1.*expected {"name"'),
    "arguments are a number": (hermes('{"name": "outline", "arguments": 3}'), "an object in"),
    "arguments are no JSON": (
        hermes('{"name": "outline", "arguments": "path a.py"}'),
        "character 1 of the text",
    ),
    "two names": (hermes('{"name": "outline", "tool": "submit", "args": {}}'), "one name"),
    "two arguments": (
        hermes('{"name": "outline", "arguments": {"path": "a"}, "input": {"path": "b"}}'),
        "one of arguments and input",
    ),
    "one name, two values": (hermes('{"name": "a", "name": "b"}'), "line 2 column 15.*once"),
    "an argument twice": (
        "<function=a><parameter=b>1</parameter><parameter=b>2</parameter></function>",
        "column 39.*once",
    ),
    "half a surrogate": (hermes(searching(r'"a\ud800"')), "line 2 column 47.*surrogate"),
    "half a surrogate in a text": (
        hermes('{"name": "search", "arguments": "{\\"pattern\\": \\"\\\\ud800\\"}"}'),
        "surrogate",
    ),
    "an escape with two readings": (hermes(searching(r'"\x41"')), "line 2 column 46"),
    "NaN": (hermes(searching("NaN")), "line 2 column 45.*finite"),
    "infinite": (hermes(searching("1e999")), "line 2 column 45.*finite"),
    "5,000 digits": (hermes(searching("9" * 5000)), "line 2 column 45.*4,300 digits"),
    "21 brackets": (hermes(searching("[" * 20 + "]" * 20)), "20 brackets deep"),
    "300 brackets": (hermes(searching("[" * 300 + "]" * 300)), "line 2.*fewer brackets"),
    "300 brackets in a Python call": (
        f"search(pattern={'[' * 300}{']' * 300})",
        "column 42.*fewer brackets",
    ),
    "21 brackets in a Python call": (
        f"search(pattern={'[' * 20}{']' * 20})",
        "20 brackets deep",
    ),
    "100,000 brackets": ("<tool_call>" + "[" * 100_000 + "</tool_call>", "expected"),
    "an open argument": (
        hermes("<function=outline><parameter=path>a.py</function>"),
        "line 2 column 19 has no end",
    ),
    "prose between elements": (hermes("<function=outline>the path"), "line 2 column 19"),
    "a name without quotes in a Python call": ("outline(path=a.py)", "column 14.*a value"),
}
