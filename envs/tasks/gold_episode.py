"""Plays the gold of a task as an episode: whether the tools that agents have can make the repair.

    files = play_gold(task)  # the workspace as gold leaves it, None if it does not come to its end

Tools, window and edit checks are those of every episode; no model and no tokenizer takes part. A
token is a byte here, and limits in tokens are those of `configs/qwen3b.yaml`, for which sets of
real projects are made, times the bytes that a token of a call has at least. The episode is not
graded: where gold leaves what its edits say, the grading of that tree is its grade.

Not covered: the limits and the chat template of a run that differ. `benchmarks/gold_episodes.py`
plays gold as any run would, with its tokenizer and its grader.
"""

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from envs.environment import Environment, Limits
from envs.policies import ScriptedPolicy, make_script
from envs.prompts import system_prompt
from envs.readers.least_peak import measure_least_peak
from envs.records import StopReason
from envs.rendering import ChatFormat
from envs.tasks.store import BuiltTask, Files

# SmolLM2's tokenizer, on gold's calls of 355 tasks: 2.47 to 2.85, and fewer tokens for prose.
BYTES_PER_TOKEN = 2.4
LIMITS = Limits(
    window_tokens=int(4096 * BYTES_PER_TOKEN),  # the smallest that is drawn
    max_turns=30,
    max_new_tokens=int(768 * BYTES_PER_TOKEN),
    observation_tokens=int(1536 * BYTES_PER_TOKEN),
    max_sampled_tokens=int(8192 * BYTES_PER_TOKEN),
)
_TEMPLATE = """
{%- for message in messages -%}
{{- "<|im_start|>" + message.role + "\n" + (message.content or "") -}}
{%- for call in message.tool_calls or [] -%}
{{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' -}}
{{- (call.function.arguments | tojson) + "}</tool_call>" -}}
{%- endfor -%}
{{- "<|im_end|>\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\n" -}}{%- endif -%}
"""


def play_gold(task: BuiltTask) -> Files | None:
    """Return the workspace as gold submits it; None if it is stopped before it submits."""
    chat = _count_bytes()
    environment = Environment(
        task.public,
        task.workspace,
        chat=chat,
        system=system_prompt("brief", example=chat.example),
        limits=LIMITS,
        strategy="learned",
    )
    script = make_script(
        "gold", task=task.public, hidden=task.hidden, files=task.workspace, chat=chat
    )
    policy = ScriptedPolicy(script, chat=chat, max_new_tokens=LIMITS.max_new_tokens)
    environment.play_out(policy.next_sample)
    is_done = environment.stop_reason is StopReason.SUBMITTED
    return environment.workspace.files if is_done else None


def measure_room(task: BuiltTask) -> int:
    """Return the bytes that a task's least peak holds beside the system prompt.

    The statement counts too: those of bugs that are combined stand in one task.
    """
    chat = _count_bytes()
    peak = measure_least_peak(
        task.public, task.hidden, task.workspace, chat=chat, system="", limits=LIMITS
    )
    room = 0 if peak.room is None else peak.room
    return room + len(task.public.statement.encode())


@cache
def _count_bytes() -> ChatFormat:
    """Return a chat format whose tokens are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")]
    )
    return ChatFormat(tokenizer, template=_TEMPLATE)
