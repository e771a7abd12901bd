"""Messages <-> token ids, for any chat template that renders tool calls and results.

The template is rendered with placeholders once, at start-up, and cut into the pieces of text that
stand between contents. Afterwards only pieces are encoded, each once, and ids are concatenated:
nothing that a model sampled is ever decoded and encoded again. Needs `tokenizers` and a Jinja
template, not torch.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import get_json_schema, render_jinja_template

from envs.errors import UserError
from envs.records import Ids, ToolCall

_A, _B, _CALL = "\u0394first\u0394", "\u0394second\u0394", "zeta"


@dataclass(frozen=True)
class Glue:
    """Text of a template between contents, after the end-of-turn id of an assistant's turn."""

    head: str
    separator: str
    tail: str
    call_open: str
    call_close: str
    call_join: str


class ChatFormat:
    """Encodes prompts, results and scripted calls, and parses what a model wrote.

    Args:
        tokenizer: The policy's tokenizer; its special tokens inside contents are encoded as plain
            text.
        template: Jinja chat template.
        eot: The token that ends an assistant's turn, such as `<|im_end|>`.
        tools: Methods whose docstrings are schemas, passed to the template (`prompt.tools:
            full`).

    Raises:
        UserError: The template does not render tool calls or results.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: str,
        eot: str,
        tools: Sequence[Callable[..., object]] = (),
    ) -> None:
        self._markup = Tokenizer.from_str(tokenizer.to_str())
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        for each in (self._markup, self._plain):
            each.no_truncation()
            each.no_padding()
        self._plain.encode_special_tokens = True
        self._template = template
        self._schemas = [get_json_schema(tool) for tool in tools]
        eot_id = tokenizer.token_to_id(eot)
        if eot_id is None:
            raise UserError(
                "the tokenizer lacks the template's end-of-turn token",
                got=eot,
                remedy="name a matching template in model.chat_template",
            )
        self.eot_id: int = eot_id
        self.glue = self._cut(eot)
        self.head_ids = self._encode_markup(self.glue.head)
        self.separator_ids = self._encode_markup(self.glue.separator)
        self.tail_ids = self._encode_markup(self.glue.tail)
        before, _, rest = self._render(
            [{"role": "system", "content": _A}, {"role": "user", "content": _B}], generate=True
        ).partition(_A)
        between, _, after = rest.partition(_B)
        self._prefix_glue = tuple(self._encode_markup(part) for part in (before, between, after))

    def encode(self, text: str) -> Ids:
        """Encode content: special tokens in it become plain text, so no file can forge a turn."""
        return tuple(self._plain.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode for reading and for parsing calls; the result is never encoded again."""
        return str(self._markup.decode(list(ids), skip_special_tokens=False))

    def prefix(self, *, system: str, user: str) -> Ids:
        """Encode system prompt, the user's turn and the generation prompt."""
        before, between, after = self._prefix_glue
        return before + self.encode(system) + between + self.encode(user) + after

    def call_ids(self, calls: Sequence[ToolCall]) -> Ids:
        """Encode calls as this template would render them, end-of-turn included."""
        bodies = (
            json.dumps({"name": c.name, "arguments": c.arguments}, ensure_ascii=False)
            for c in calls
        )
        text = self.glue.call_join.join(
            self.glue.call_open + body + self.glue.call_close for body in bodies
        )
        return (*self._encode_markup(text), self.eot_id)

    def _encode_markup(self, text: str) -> Ids:
        return tuple(self._markup.encode(text, add_special_tokens=False).ids)

    def _render(self, messages: list[dict[str, Any]], *, generate: bool) -> str:
        rendered, _ = render_jinja_template(
            [messages],
            tools=self._schemas or None,
            chat_template=self._template,
            add_generation_prompt=generate,
        )
        return str(rendered[0])

    def _cut(self, eot: str) -> Glue:
        calls = [
            {"type": "function", "function": {"name": _CALL, "arguments": {"a": n}}} for n in (1, 2)
        ]
        text = self._render(
            [
                {"role": "user", "content": "task"},
                {"role": "assistant", "content": "", "tool_calls": calls},
                {"role": "tool", "name": _CALL, "content": _A},
                {"role": "tool", "name": _CALL, "content": _B},
            ],
            generate=True,
        )
        bodies = [json.dumps({"name": _CALL, "arguments": {"a": n}}) for n in (1, 2)]
        missing = [part for part in (*bodies, _A, _B) if part not in text]
        if missing:
            raise UserError(
                "the chat template does not render tool calls as JSON and tool results",
                got=f"no {missing[0]!r} in its output",
                remedy="set model.chat_template to chatml, or to a template that renders both",
            )
        opening = text[: text.index(bodies[0])]
        start = opening.rfind("<tool_call>")
        call_open = opening[start:] if start >= 0 else ""
        middle = text[text.index(bodies[0]) + len(bodies[0]) : text.index(bodies[1])]
        after_second = text[text.index(bodies[1]) + len(bodies[1]) :]
        call_close = after_second[: after_second.index(eot)]
        call_join = middle.removeprefix(call_close).removesuffix(call_open)
        before_result = text[: text.index(_A)]
        return Glue(
            head=before_result[before_result.rindex(eot) + len(eot) :],
            separator=text[text.index(_A) + len(_A) : text.index(_B)],
            tail=text[text.index(_B) + len(_B) :],
            call_open=call_open,
            call_close=call_close,
            call_join=call_join,
        )
