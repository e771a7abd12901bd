"""The system prompt for each `prompt.tools`, the request for a summary, the answer to no call.

The example of a call is written as the model's own chat template writes calls.
Tests: tests/envs/test_tools.py.
"""

from collections.abc import Collection

from envs.records import Behaviour, Strategy
from envs.tools import describe_tools, list_tools

SYSTEM_SHORT = "Repair the code."
SUMMARIZE = "summarize now"  # short: it takes from what is left
SYSTEM = """You repair Python code inside a small context window. Answer with tool calls only:
{example}
Each result begins with [id size/left]: its tokens and the tokens left in the window. Read the lines
you need, not whole files; evict results that are used up; compact before the window is full; submit
when it is repaired."""
_ON_EVICT, _ON_COMPACT = (
    "evict results that are used up; ",
    "compact before the window is full; ",
)
_ON_REWRITES = _ON_EVICT + _ON_COMPACT
_ON_MASKS = "older results are dropped, read again what you still need; "
_ON_SUMMARIES = """when a result says 'summarize now', answer with plain text, no call: what is
done, what is left, and where, for it replaces all before it; """
_INSTEAD: dict[Strategy, str] = {
    "full_history": "",
    "mask": _ON_MASKS,
    "summarize": _ON_SUMMARIES,
    "hybrid": _ON_MASKS + _ON_SUMMARIES,
    "learned": _ON_REWRITES,
    "learned_net": _ON_REWRITES + _ON_SUMMARIES,
}
_TOOLS = "\nTools:\n"


def system_prompt(
    tools: str,
    strategy: Strategy = "learned",
    *,
    example: str,
    without: Collection[Behaviour] = (),
) -> str:
    """Return the shipped system prompt; it names the tools that there are, and no others.

    Args:
        tools: `prompt.tools`: full, brief or none.
        strategy: `context.strategy`, which decides on the tools.
        example: A call as the chat template writes it.
        without: Tools that there are not, for all that.
    """
    if tools == "none":
        return SYSTEM_SHORT
    text = SYSTEM.replace(_ON_REWRITES, _INSTEAD[strategy]).replace("{example}", example)
    for name, advice in (("evict", _ON_EVICT), ("compact", _ON_COMPACT)):
        text = text.replace(advice, "") if name in without else text
    offered = list_tools(strategy, without)
    return text + (_TOOLS + describe_tools(offered) if tools == "brief" else "")


def without_tools(system: str) -> str:
    """Return a system prompt up to its list of tools."""
    return system.partition(_TOOLS)[0]


def answer_no_call(example: str) -> str:
    """Return what a turn without a call is answered, in the template's form of calls."""
    if '"arguments"' in example:
        return 'no tool call, expected <tool_call>{"name": ..., "arguments": {...}}</tool_call>'
    return f"no tool call, expected one like {example}"
