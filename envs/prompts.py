"""The system prompt for each `prompt.tools`, and what a turn without a call is answered.

The example of a call is written as the model's own chat template writes calls.
Tests: tests/envs/test_tools.py.
"""

from envs.records import Strategy
from envs.tools import describe_tools, list_tools

SYSTEM_SHORT = "Repair the code."
SYSTEM = """You repair Python code inside a small context window. Answer with tool calls only:
{example}
Each result begins with [id size/left]: its tokens and the tokens left in the window. Read the lines
you need, not whole files; evict results that are used up; compact before the window is full; submit
when it is repaired."""
_ON_REWRITES = "evict results that are used up; compact before the window is full; "


def system_prompt(tools: str, strategy: Strategy = "learned", *, example: str) -> str:
    """Return the shipped system prompt; it names the tools that there are, and no others.

    Args:
        tools: `prompt.tools`: full, brief or none.
        strategy: `context.strategy`, which decides on the tools.
        example: A call as the chat template writes it.
    """
    if tools == "none":
        return SYSTEM_SHORT
    text = SYSTEM.replace(_ON_REWRITES, "") if strategy == "full_history" else SYSTEM
    text, names = text.replace("{example}", example), list_tools(strategy)
    return text + ("\nTools:\n" + describe_tools(names) if tools == "brief" else "")


def answer_no_call(example: str) -> str:
    """Return what a turn without a call is answered, in the template's form of calls."""
    if '"arguments"' in example:
        return 'no tool call, expected <tool_call>{"name": ..., "arguments": {...}}</tool_call>'
    return f"no tool call, expected one like {example}"
