"""Messages <-> token ids, for any chat template that renders tool calls and their results.

`envs/chat_template.py` says what the template writes; here it becomes ids. Each piece is encoded
once and ids are concatenated: nothing that a model sampled is ever decoded and encoded again.
Needs `tokenizers` and a Jinja template, not torch.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from envs.calls.reader import parse_calls
from envs.chat_template import REMEDY, ChatTemplate, TemplateParts
from envs.errors import UserError
from envs.files import hash_text
from envs.plain_text import representable
from envs.records import Ids, ToolCall
from envs.tools import NAMES, PARAMETERS, convert_call

_MASK = re.compile(r"zqmask(\d+)qz")
_OTHER_NAME = "other"  # stands in results for a name that is no tool's
_PROBES = (  # calls with all that forms of calls treat differently: line ends, quotes, types
    [
        ToolCall(
            name="edit_lines",
            arguments={
                "path": "a.py",
                "start": 3,
                "end": 3,
                "text": "    return \"\\n\" + x['a']\n",
            },
        ),
        ToolCall(name="submit"),
    ],
    [ToolCall(name="evict", arguments={"observation_ids": ["o1", "o2"]})],
)
_EXAMPLE = ToolCall(name="read_lines", arguments={"path": "a.py", "start": 3, "end": 9})


class ChatFormat:
    """Encodes prompts, results and scripted calls, and decodes what a model wrote.

    Args:
        tokenizer: The policy's tokenizer; its special tokens inside contents are encoded as plain
            text.
        template: Jinja chat template.
        special_tokens: The tokenizer's `special_tokens_map`: variables such as `bos_token`.
        tools: Methods whose docstrings are schemas, passed to the template (`prompt.tools:
            full`).

    Attributes:
        eot_id: Ends a turn with calls; a sample cut at its limit gets it unsampled.
        stop_ids: Where sampling stops: `eot_id` first, then what ends a turn without calls.
        digest: Hash of tokenizer, template and tools: the same counts tokens alike.
        example: A call as the template writes it.
        max_calls: Most calls that the template writes in one turn, None without a limit.

    Raises:
        UserError: The template does not render tool calls or results, or calls that it writes are
            not read back.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: str,
        special_tokens: Mapping[str, str] | None = None,
        tools: Sequence[Callable[..., object]] = (),
    ) -> None:
        text = tokenizer.to_str()
        self._markup, self._plain = Tokenizer.from_str(text), Tokenizer.from_str(text)
        named = [template, dict(special_tokens or {}), [tool.__name__ for tool in tools]]
        self.digest: str = hash_text(text + json.dumps(named, sort_keys=True, default=str))
        for each in (self._markup, self._plain):
            each.no_truncation()
            each.no_padding()
        self._plain.encode_special_tokens = True
        added = tokenizer.get_added_tokens_decoder()
        self._special = {i: str(t.content) for i, t in added.items() if t.special}
        self._template = ChatTemplate(
            template,
            markers=list(self._special.values()),
            special_tokens=special_tokens or {},
            tools=tools,
        )
        ids = {text: i for i, text in self._special.items()}
        self.eot_id: int = ids[self._template.eot]
        self.stop_ids: Ids = (self.eot_id, *(ids[stop] for stop in self._template.other_stops))
        self.max_calls = self._template.max_calls
        self._parts: dict[tuple[str, ...], TemplateParts[Ids]] = {}
        self._num_system: dict[tuple[str, bool], int] = {}
        self._eats_space = bool(added[self.eot_id].rstrip)
        self._check_calls()
        self.example: str = self.decode(self.call_ids([_EXAMPLE])[:-1]).strip()

    def encode(self, text: str) -> Ids:
        """Encode content: special tokens in it become plain text, so no file can forge a turn."""
        return tuple(self._plain.encode(representable(text), add_special_tokens=False).ids)

    def encode_result(self, text: str, *, continues: bool = False) -> Ids:
        """Encode a result as the template writes it; `continues` if more of it follows."""
        masked, masks = self._masked(text)
        return self.encode(_unmask(self._template.result(masked, continues=continues), masks))

    def decode(self, ids: Sequence[int]) -> str:
        """Decode for reading and for parsing calls; the result is never encoded again."""
        return str(self._markup.decode(list(ids), skip_special_tokens=False))

    def prefix(self, *, system: str, user: str, schemas: bool = True) -> Ids:
        """Encode system prompt, the user's turn and the generation prompt.

        The ids are those of `apply_chat_template` where no content holds a special token; to count
        those of tool schemas, they can be left out.
        """
        (system, user), masks = self._masked([system, user])
        text = self._template.prompt(system=system, user=user, schemas=schemas)
        return self._encode_markup(text, masks)

    def count_system(self, system: str, *, schemas: bool) -> int:
        """Count the tokens of a prefix with this system prompt and no task; each once."""
        key = (system, schemas)
        if key not in self._num_system:
            self._num_system[key] = len(self.prefix(system=system, user="", schemas=schemas))
        return self._num_system[key]

    def call_ids(self, calls: Sequence[ToolCall]) -> Ids:
        """Encode calls as this template would render them, end-of-turn included."""
        if not calls:
            return (self.eot_id,)
        arguments, masks = self._masked([call.arguments for call in calls])
        masked = [
            call.model_copy(update={"arguments": a})
            for call, a in zip(calls, arguments, strict=True)
        ]
        return self._encode_markup(self._template.turn(masked), masks)

    def surround_results(self, names: Sequence[str]) -> TemplateParts[Ids]:
        """Return the ids around the results of one turn's calls of these tools."""
        named = self._template.named_results
        known = tuple(name if named and name in NAMES else _OTHER_NAME for name in names)
        if known not in self._parts:
            text = self._template.surround_results(known)
            self._parts[known] = TemplateParts(
                head=self._encode_markup(text.head.lstrip() if self._eats_space else text.head),
                separators=tuple(map(self._encode_markup, text.separators)),
                tail=self._encode_markup(text.tail),
            )
        return self._parts[known]

    def _masked(self, content: Any) -> tuple[Any, list[str]]:
        """Replace special tokens in all strings of `content` by words that no template changes."""
        masks: list[str] = []
        return self._mask(content, masks), masks

    def _mask(self, content: Any, masks: list[str]) -> Any:
        if isinstance(content, str):
            return self._template.mask(representable(content), masks)
        if isinstance(content, dict):
            return {self._mask(k, masks): self._mask(v, masks) for k, v in content.items()}
        if isinstance(content, list | tuple):
            return [self._mask(each, masks) for each in content]
        return content

    def _encode_markup(self, text: str, masks: Sequence[str] = ()) -> Ids:
        """Encode what the template wrote; masked special tokens come back as plain text."""
        encoded = self._markup.encode(text, add_special_tokens=False)
        if not masks:
            return tuple(encoded.ids)
        ids: list[int] = []
        place = 0
        for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
            if token in self._special:
                ids += self.encode(_unmask(text[place:start], masks))
                ids.append(token)
                place = end
        return (*ids, *self.encode(_unmask(text[place:], masks)))

    def _check_calls(self) -> None:
        """Refuse a template whose own calls do not come back from the reader."""
        for calls in _PROBES:
            for part in [calls] if self.max_calls is None else [[each] for each in calls]:
                text = self.decode(self.call_ids(part)[:-1])
                again = [convert_call(call) for call in parse_calls(text, PARAMETERS)]
                if [(c.name, c.arguments) for c in again] != [(c.name, c.arguments) for c in part]:
                    raise UserError(
                        "calls as the chat template writes them are not read back",
                        got=repr(text),
                        remedy=REMEDY,
                    )


def _unmask(text: str, masks: Sequence[str]) -> str:
    return _MASK.sub(lambda m: masks[int(m[1])] if int(m[1]) < len(masks) else m[0], text)
