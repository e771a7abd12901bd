"""A Jinja chat template as text: what it writes between contents, and where a turn ends.

The template itself is rendered with placeholders and cut at them, so JSON, XML and native forms of
calls need no renderer of their own. A template that cannot carry a tool conversation is refused
with the reason. Needs Transformers for schemas, not torch. Tests: tests/envs/test_templates.py.
"""

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from transformers.utils.chat_template_utils import get_json_schema

from envs.errors import UserError
from envs.records import ToolCall
from envs.templates.render_process import RenderError, shared_process

Message = dict[str, Any]
_Part = TypeVar("_Part", bound=Sequence[object])

REMEDY = (
    "set model.chat_template to text_calls (the same template, calls and results as its text), "
    "to chatml, or to a template that renders both"
)
_SYSTEM, _USER, _REPLY = "zqsystemqz", "zquserqz", "zqreplyqz"  # letters: no escaping changes them
_BASE: list[Message] = [
    {"role": "system", "content": _SYSTEM},
    {"role": "user", "content": _USER},
]
_NAMES = ("zqonezq", "zqtwozq")
_AWKWARD = ' x"\\\n\t<a>&\u00e9 \n'  # changes where a template escapes or strips
_OPEN_THINK = re.compile(r"<think>\s*\Z")
_ANY_THINK = re.compile(r"<think>\s*(</think>\s*)?\Z")
_EMPTY_THINK = re.compile(r"<think>\s*</think>\s*")
_CLOSE_THINK = re.compile(r"\s*</think>\s*")
_MAX_RENDERED = 1000  # conversations whose text is kept: the prompt of a group, the frame of a turn
_DEFAULT_CLOSE = "\n</think>\n\n"  # as Qwen3 and DeepSeek-R1 write an empty thought


@dataclass(frozen=True)
class TemplateParts(Generic[_Part]):
    """What stands around the results of one turn, after its end-of-turn token: texts or ids.

    `separators` stand before the second result and each one after it; `tail` holds the next
    generation prompt.
    """

    head: _Part
    separators: tuple[_Part, ...]
    tail: _Part

    @property
    def num_tokens(self) -> int:
        """Of all parts, where they are ids."""
        return sum(map(len, (self.head, *self.separators, self.tail)))


@dataclass(frozen=True)
class _Style:
    """How a template takes an assistant's calls."""

    content: str | None
    arguments_as_text: bool
    max_calls: int | None


class ChatTemplate:
    """Renders and cuts one template.

    Args:
        text: The Jinja template.
        markers: The tokenizer's special tokens; one of them ends a turn.
        special_tokens: Variables such as `bos_token` that templates print.
        tools: Methods whose docstrings are schemas, passed to the template.

    Attributes:
        eot: The special token that ends an assistant's turn with calls.
        other_stops: Special tokens that end a turn without calls, where they differ.
        max_calls: Most calls in one turn, None without a limit.
        closing: What closes a thought that the generation prompt opens, else ''.
        plain_results: Results stand as they are; else some are quoted, or their ends stripped.
        named_results: What stands before a result names its tool.

    Raises:
        UserError: The template cannot carry a tool conversation.
    """

    def __init__(
        self,
        text: str,
        *,
        markers: Sequence[str],
        special_tokens: Mapping[str, str],
        tools: Sequence[Callable[..., object]] = (),
    ) -> None:
        self._text, self._variables = text, dict(special_tokens)
        self._rendered: dict[tuple[str, bool, bool], str] = {}
        self._schemas = [get_json_schema(tool) for tool in tools]
        longest_first = sorted(markers, key=len, reverse=True)
        self._markers = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._maskable = re.compile(rf"zqmask\d+qz|{self._markers.pattern}")
        self._opening = self._checked_prompt()
        self._style = self._find_style()
        self.max_calls = self._style.max_calls
        self.eot = self._find_eot()
        self._check_one_call()
        self.closing = self._find_closing() if _OPEN_THINK.search(self._opening) else ""
        self.other_stops = self._find_other_stops()
        self.plain_results = self._shown(_AWKWARD) == _AWKWARD
        self.named_results = self.surround_results(_NAMES) != self.surround_results(_NAMES[::-1])

    def prompt(self, *, system: str, user: str, schemas: bool = True) -> str:
        """Render the first prompt, with schemas or without; an opened thought is closed."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return self._closed(self._render(messages, generate=True, schemas=schemas))

    def turn(self, calls: Sequence[ToolCall]) -> str:
        """Render the calls of one turn, behind the generation prompt, end-of-turn included."""
        assert len(calls) <= (self.max_calls or len(calls)), "the template would drop some"
        names = tuple(call.name for call in calls)
        text = self._render(self._conversation(calls, names), generate=True)
        end = _find_last(text, _result(0)) - len(self.surround_results(names).head)
        if not text[:end].endswith(self.eot):
            raise _unfit("renders one conversation in two ways", got=repr(text[:end][-40:]))
        return text[self._turn_start(text) : end]

    def surround_results(self, names: tuple[str, ...]) -> TemplateParts[str]:
        """Return what stands around the results of tools called `names`."""
        calls = [ToolCall(name=name, arguments={"a": _argument(i)}) for i, name in enumerate(names)]
        text = self._render(self._conversation(calls, names), generate=True)
        last = _argument(min(len(names), self.max_calls or len(names)) - 1)
        head = _find(text, self.eot, _find_last(text, last)) + len(self.eot)
        places = [_find(text, _result(index), head) for index in range(len(names))]
        ends = [place + len(_result(index)) for index, place in enumerate(places)]
        separators = [text[a:b] for a, b in zip(ends[:-1], places[1:], strict=True)]
        return TemplateParts(
            text[head : places[0]], tuple(separators), self._closed(text[ends[-1] :])
        )

    def result(self, text: str, *, continues: bool = False) -> str:
        """Return a result as the template writes it: some quote it as JSON, some strip its end.

        Args:
            text: The result, or its beginning.
            continues: More follows, so that the end must stay as it is.
        """
        if self.plain_results:
            return text
        before, after = "x", "x" if continues else ""
        shown = self._shown(before + text + after)
        return shown[len(before) : len(shown) - len(after)]

    def mask(self, text: str, masks: list[str]) -> str:
        """Put a word of letters in place of each special token and append the token to `masks`.

        Such words that a text holds already are put aside alike, and come back as they are.
        """

        def word(found: re.Match[str]) -> str:
            masks.append(found.group())
            return f"zqmask{len(masks) - 1}qz"

        return self._maskable.sub(word, text)

    def _shown(self, text: str) -> str:
        names = _NAMES[:1]
        around = self._render(self._conversation([_probe(0)], names), generate=True)
        head, _, tail = around.partition(_result(0))
        whole = self._render(self._conversation([_probe(0)], names, results=[text]), generate=True)
        if not (whole.startswith(head) and whole.endswith(tail)):
            raise _unfit("renders a result differently by its content", got=repr(text[:40]))
        return whole[len(head) : len(whole) - len(tail)]

    def _render(self, messages: list[Message], *, generate: bool, schemas: bool = True) -> str:
        key = (json.dumps(messages, default=str), generate, schemas)
        if key not in self._rendered:
            try:
                text = self._try(messages, generate=generate, schemas=schemas)
            except RenderError as error:
                raise _unfit("raises in a conversation", got=str(error)) from error
            if len(self._rendered) >= _MAX_RENDERED:
                self._rendered.clear()
            self._rendered[key] = text
        return self._rendered[key]

    def _try(self, messages: list[Message], *, generate: bool, schemas: bool = True) -> str:
        """Render; raises RenderError where the template does."""
        given = {
            "messages": messages,
            "tools": (self._schemas if schemas else None) or None,
            "documents": None,
            "add_generation_prompt": generate,
        }
        return shared_process().render(self._text, given | self._variables)

    def _conversation(
        self,
        calls: Sequence[ToolCall],
        names: tuple[str, ...],
        *,
        results: Sequence[str] | None = None,
        style: _Style | None = None,
    ) -> list[Message]:
        style = style or self._style
        messages = [*_BASE, _assistant(calls[: style.max_calls], style)]
        for index, name in enumerate(names):
            content = results[index] if results is not None else _result(index)
            messages.append(
                {"role": "tool", "name": name, "tool_call_id": _id(index), "content": content}
            )
        return messages

    def _checked_prompt(self) -> str:
        try:
            text = self._try(_BASE, generate=True)
        except RenderError as error:
            raise _unfit("raises on a system and a user message", got=str(error)) from error
        missing = [part for part in (_SYSTEM, _USER) if part not in text]
        if missing:
            role = "system" if missing[0] == _SYSTEM else "user"
            raise _unfit(
                f"leaves out the text of the {role} message", got="nothing of it in its output"
            )
        lost = [s["function"]["name"] for s in self._schemas if s["function"]["name"] not in text]
        if lost:
            raise UserError(
                "the chat template does not put tool schemas into the prompt",
                got=f"no {lost[0]!r} in its output",
                remedy="set prompt.tools to brief",
            )
        return text

    def _find_style(self) -> _Style:
        """Find the first way of writing calls that the template renders, several a turn first."""
        reasons = []
        for most in (None, 1):
            for content in ("", None):
                for as_text in (False, True):
                    style = _Style(content, as_text, most)
                    reason = self._why_not(style)
                    if not reason:
                        return style
                    reasons.append(reason)
        raise _unfit("does not render tool calls and results", got=reasons[0])

    def _why_not(self, style: _Style) -> str:
        conversation = self._conversation([_probe(0), _probe(1)], _NAMES, style=style)
        try:
            text = self._try(conversation, generate=True)
        except RenderError as error:
            return f"it raises: {error}"
        calls = [part for i in range(style.max_calls or 2) for part in (_NAMES[i], _argument(i))]
        place = 0
        for part in (*calls, _result(0), _result(1)):
            place = text.find(part, place)
            if place < 0:
                return f"no {'result' if part.startswith('zqresult') else 'call'} in its output"
        return ""

    def _find_eot(self) -> str:
        """Find the special token behind the last call that closes the turn, not the call."""
        calls = [_probe(0), _probe(1)][: self.max_calls]
        last = _argument(len(calls) - 1)
        whole = self._render(self._conversation(calls, _NAMES), generate=True)
        between = ""
        if len(calls) > 1:
            between = whole[_find(whole, _argument(0)) : _find(whole, last)]
        gap = self._found(whole[_find(whole, last) : _find(whole, _result(0))])
        final = self._render([*_BASE, _assistant(calls, self._style)], generate=False)
        tail = self._found(final[_find(final, last) :])
        closes_call = _shared(gap, self._found(between))
        closes_turn = _shared(gap, tail)
        if len(closes_turn) > len(closes_call):
            return closes_turn[-1]
        if len(gap) > len(closes_call):  # the next role's own token ends the turn, as in GLM
            return gap[len(closes_call)]
        raise _unfit("ends an assistant's turn with no special token of the tokenizer", got="none")

    def _find_other_stops(self) -> tuple[str, ...]:
        """Find what ends a turn without calls, and the tokenizer's own end of text."""
        stops = [self._variables[name] for name in ("eos_token",) if name in self._variables]
        reply: Message = {"role": "assistant", "content": _REPLY}
        try:
            final = self._try([*_BASE, reply], generate=False)
            whole = self._try([*_BASE, reply, _BASE[1]], generate=False)
        except RenderError:
            final = whole = ""
        if _REPLY in final and _REPLY in whole:
            tail = self._found(final.rpartition(_REPLY)[2])
            gap = self._found(whole.partition(_REPLY)[2].partition(_USER)[0])
            stops += _shared(tail, gap)[-1:] or tail[:1] or gap[:1]
        known = (stop for stop in stops if self._markers.fullmatch(stop) and stop != self.eot)
        return tuple(dict.fromkeys(known))

    def _check_one_call(self) -> None:
        whole = self._render(self._conversation([_probe(0)], _NAMES[:1]), generate=True)
        if self.eot not in whole[_find(whole, _argument(0)) : _find(whole, _result(0))]:
            raise _unfit("does not end a turn with one call", got=f"no {self.eot} behind it")

    def _closed(self, text: str) -> str:
        return text + self.closing if _OPEN_THINK.search(text) else text

    def _find_closing(self) -> str:
        """Return what this template writes to close an empty thought."""
        calls = [_probe(0)]
        whole = self._render(self._conversation(calls, _NAMES[:1]), generate=True)
        if whole.startswith(self._opening):
            found = _CLOSE_THINK.match(whole, len(self._opening))
            if found:
                return found.group()
        place = _find(whole, _NAMES[0])
        before_call = whole[len(_shared(whole[:place], self._opening)) : place]
        found = re.search(r"</think>\s*", before_call)
        return found.group() if found else _DEFAULT_CLOSE

    def _turn_start(self, text: str) -> int:
        """Return where the assistant's own words begin in a rendered conversation."""
        whole = self._closed(self._opening)
        if text.startswith(whole):
            return len(whole)
        thought = _ANY_THINK.search(self._opening)
        header = self._opening[: thought.start()] if thought else self._opening
        if not text.startswith(header):
            raise _unfit(
                "writes an assistant's turn not behind its generation prompt",
                got=repr(header[-40:]),
            )
        found = _EMPTY_THINK.match(text, len(header))
        return found.end() if found else len(header)

    def _found(self, text: str) -> list[str]:
        return self._markers.findall(text)


def _unfit(what: str, *, got: str) -> UserError:
    return UserError(f"the chat template {what}", got=got, remedy=REMEDY)


def _find(text: str, part: str, start: int = 0) -> int:
    return _check_place(text.find(part, start), part)


def _find_last(text: str, part: str) -> int:
    return _check_place(text.rfind(part), part)


def _check_place(place: int, part: str) -> int:
    if place < 0:  # it was there when the template was looked at
        raise _unfit("leaves out what it wrote before", got=f"no {part!r} in its output")
    return place


def _assistant(calls: Sequence[ToolCall], style: _Style) -> Message:
    written = []
    for index, call in enumerate(calls):
        arguments: Any = call.arguments
        if style.arguments_as_text:
            arguments = json.dumps(arguments, ensure_ascii=False)
        function = {"name": call.name, "arguments": arguments}
        written.append({"id": _id(index), "type": "function", "function": function})
    return {"role": "assistant", "content": style.content, "tool_calls": written}


def _probe(index: int) -> ToolCall:
    return ToolCall(name=_NAMES[index], arguments={"a": _argument(index)})


def _argument(index: int) -> str:
    return f"zqargument{index}qz"


def _result(index: int) -> str:
    return f"zqresult{index}qz"


def _id(index: int) -> str:
    return f"call{index:05d}"  # nine letters and digits, as Mistral's templates demand


def _shared(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Return the longest beginning that both share."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return [each for each, _ in pairs]
