"""The tool calls in what a model wrote, whatever form its family gives them.

One pass from left to right. JSON is decoded by object and elements by their place, so a tag, a
fence or a whole call inside a text is text; what stands in reasoning is no call, and reasoning
without an end takes the rest of the turn. Of three kinds of calls the first that occurs counts: in
the marks of a family, in a fence, bare JSON. Where a call has two readings none is taken: its error
names the place and what was expected there. Nothing raises, and time grows with the text.

Forms: `envs/calls/marks.py`; slips that are corrected: `envs/calls/lenient_json.py`; fields:
`envs/calls/objects.py`. Not read: calls in prose, in inline code and in quotes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from envs.calls import marks
from envs.calls.elements import EQUALS, NAMED, PAIRS, Form, read_elements
from envs.calls.lenient_json import decode, skip_space
from envs.calls.malformed import Malformed, Places
from envs.calls.objects import EXPECTED, FoundCall, count_nesting, find_calls
from envs.calls.python_calls import HEAD, read_python_call, read_python_calls
from envs.records import CallFormat, Repair, ToolCall

Parameters = Mapping[str, Sequence[str]]  # of each tool
_MARKED, _FENCED, _BARE, _MENTIONED = range(4)  # which calls of a turn count, the first first
_MAX_DEPTH = 20  # brackets inside each other, in arguments
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_calls(text: str, parameters: Parameters) -> tuple[ToolCall, ...]:
    """Read the calls of one turn.

    Args:
        text: The decoded sample.
        parameters: The names of the parameters of each tool there is.

    Returns:
        The calls in order. A malformed one has `error` set; none at all gives an empty tuple.
    """
    return _Reader(_SURROGATE.sub("\ufffd", text), parameters).read()


class _Reader:
    def __init__(self, text: str, parameters: Parameters) -> None:
        self.text, self.parameters = text, parameters
        self.places = Places(text)
        self.found: list[tuple[int, ToolCall]] = []
        self.fence = ""  # the one around calls, while it is open
        self.is_endless = False  # no mark behind ends a call
        self.broken_at = 0  # where the last list of calls breaks
        self.first, self.last = skip_space(text, 0), len(text.rstrip())

    def read(self) -> tuple[ToolCall, ...]:
        at = self._python_turn(self.first)
        while mark := marks.MARK.search(self.text, at):
            at = self._read_mark(mark)
        counts = min((kind for kind, _ in self.found), default=_MARKED)
        return tuple(call for kind, call in self.found if kind == counts)

    def _read_mark(self, mark: re.Match[str]) -> int:
        """Read what a mark begins and return the offset behind it."""
        match mark.lastgroup:
            case "reasoning":
                return self._python_turn(self._skip_reasoning(mark))
            case "reasoning_end":  # it began in the prompt: all so far was reasoning
                self.found.clear()
                self.fence = ""
                return self._python_turn(mark.end())
            case "fence":
                return self._read_fence(mark)
            case "json" if mark[0].startswith("["):  # a list is its members
                return mark.end()
            case "python":
                return self._skip_python_call(mark)
            case "json":
                return self._read_loose_object(mark.start())
        if self._is_quoted(mark.start(), mark.end()):
            return mark.end()
        if mark.lastgroup == "argument":
            if self.found and self.found[-1][1].format == "xml":
                self.found.pop()  # one of its texts may go on to here
            self._fail(Malformed(mark.start(), "a call around it"), "xml", _MARKED)
            return len(self.text)
        num_before = len(self.found)
        end = self._read_header(mark) if mark.lastgroup == "header" else self._read_block(mark)
        if self._is_quoted(mark.start(), end):
            del self.found[num_before:]
        return end

    def _skip_reasoning(self, mark: re.Match[str]) -> int:
        end = marks.match_end_of_reasoning(mark[0]).search(self.text, mark.end())
        return end.end() if end else len(self.text)

    def _is_quoted(self, start: int, end: int) -> bool:
        """Tell whether a span is mentioned, in quotes or inline code, not made."""
        quote = self.text[max(start - 1, 0) : start]
        if quote not in ("`", '"', "'") or not self.text.startswith(quote, end):
            return False
        return not (start - 1 == self.first and end + 1 == self.last)

    # Calls between the marks of a family.

    def _read_block(self, mark: re.Match[str]) -> int:
        is_tag = mark[0].startswith("<") and not mark[0].startswith(("<|", "<\uff5c"))
        form: CallFormat = "hermes" if is_tag else "native"
        at = mark.start() if mark.lastgroup == "element" else mark.end()
        num_before, num_open = len(self.found), 0
        while (at := self._skip_separators(at)) < len(self.text):
            has_calls = len(self.found) > num_before
            if close := marks.CLOSE.match(self.text, at):
                if not has_calls:
                    self._fail(Malformed(at, EXPECTED), form, _MARKED)
                elif num_open:
                    self._mend("brackets")
                return close.end()
            if opening := marks.OPEN.match(self.text, at):
                at = opening.end()
            elif reasoning := marks.REASONING.match(self.text, at):
                at = self._skip_reasoning(reasoning)
            elif brackets := marks.LIST.match(self.text, at):
                at, num_open = brackets.end(), num_open + (2 if brackets[0][0] == "{" else 1)
            elif has_calls and self.text[at] in "]})":
                at, num_open = at + 1, num_open - 1
            else:
                try:
                    end = self._read_payload(at, form)
                except Malformed as error:
                    self._fail(error, form, _MARKED)
                    return self._behind(error)
                if end is None:
                    if not has_calls:
                        return self._read_nothing(mark, at, form)
                    break
                at = end
        if len(self.found) == num_before:
            self._fail(Malformed(at, EXPECTED, is_cut=True), form, _MARKED)
        elif form == "hermes" and mark.lastgroup == "open":
            self._mend("unclosed")
        return at

    def _read_payload(self, at: int, form: CallFormat) -> int | None:
        """Read one call in a block; None if no call begins here.

        Raises:
            Malformed: One begins and cannot be read.
        """
        if self.text.startswith("{", at):
            return self._read_object(at, form)
        if function := marks.FUNCTION.match(self.text, at):
            return self._read_element(function, EQUALS)
        if invoke := marks.INVOKE.match(self.text, at):
            return self._read_element(invoke, NAMED)
        if head := HEAD.match(self.text, at):
            call, end_at = read_python_call(self.text, head, parameters=self.parameters)
            self._add(call, "python", _MARKED)
            return end_at
        name = marks.NAME.match(self.text, at)
        end = self._read_named(name) if name else None
        if end is None and marks.CUT_OFF.match(self.text, at):
            raise Malformed(len(self.text), EXPECTED, is_cut=True)
        return end

    def _read_object(self, at: int, form: CallFormat) -> int:
        decoded = decode(self.text, at, closing=marks.CLOSE)
        calls = find_calls(decoded.value, tools=self.parameters)
        if not calls:
            raise Malformed(at, EXPECTED)
        for call in calls:
            self._add(call, form, _MARKED, at=at, repairs=decoded.repairs)
        return decoded.end

    def _read_element(self, opening: re.Match[str], form: Form) -> int:
        name = opening[1].strip().strip("\"'")
        at = skip_space(self.text, opening.end())
        if self.text.startswith("{", at):  # Llama 3 and others: JSON in the element
            at = self._read_arguments(name, at)
            end = marks.CLOSE.match(self.text, skip_space(self.text, at))
            return end.end() if end and "function" in end[0] else at
        arguments, at, is_ended = read_elements(self.text, at, form)
        self._add(
            FoundCall(name, arguments), "xml", _MARKED, repairs=() if is_ended else ("unclosed",)
        )
        return at

    def _read_named(self, found: re.Match[str]) -> int | None:
        """Read a name and the arguments behind it."""
        text, name = self.text, found[2]
        between = marks.BETWEEN.match(text, found.end())
        assert between is not None, "the pattern matches nothing, too"
        is_known = name in self.parameters or found[1] or between[1]
        other = marks.NAME.match(text, between.end())
        if between[1] == marks.SEPARATOR and other:  # DeepSeek: the type stands before the name
            name, between = other[2], marks.BETWEEN.match(text, other.end()) or between
        at = between.end()
        if text.startswith("{", at) and is_known:
            return self._read_arguments(name, at, is_gemma=found[1] == "call:")
        if PAIRS.argument.match(text, at):
            arguments, at, _ = read_elements(text, at, PAIRS)
            self._add(FoundCall(name, arguments), "xml", _MARKED)
            return at
        if name in self.parameters and marks.CLOSE.match(text, at):
            self._add(FoundCall(name, {}), "xml", _MARKED)
            return at
        if at == len(text) and any(each.startswith(name) for each in self.parameters):
            raise Malformed(at, "arguments", is_cut=True)
        return None

    def _read_arguments(self, name: str, at: int, *, is_gemma: bool = False) -> int:
        decoded = decode(self.text, at, closing=marks.CLOSE)
        repairs = decoded.repairs - ({"quotes", "literals"} if is_gemma else set())
        self._add(FoundCall(name, decoded.value), "native", _MARKED, at=at, repairs=repairs)
        return decoded.end

    def _read_header(self, mark: re.Match[str]) -> int:
        header = marks.HEADER.match(self.text, mark.start())
        if not header:
            return mark.end()
        at = skip_space(self.text, header.end())
        if self.text.startswith("<", at):
            return at  # ATEM: the call itself follows
        try:
            if not self.text.startswith("{", at):
                raise Malformed(at, "arguments as {...}", is_cut=at == len(self.text))
            return self._read_arguments(header[1], at)
        except Malformed as error:
            self._fail(error, "native", _MARKED)
            return self._behind(error)

    def _read_nothing(self, mark: re.Match[str], at: int, form: CallFormat) -> int:
        """Tell a call that is none from a mark that prose only mentions."""
        end, is_closed = self._end_of_unreadable(at)
        self._fail(Malformed(at, EXPECTED), form, _MARKED if is_closed else _MENTIONED)
        return end if is_closed else max(at, mark.end())

    def _behind(self, error: Malformed) -> int:
        """Return where to go on behind a call that cannot be read."""
        return len(self.text) if error.is_doubtful else self._end_of_unreadable(error.resume)[0]

    def _end_of_unreadable(self, at: int) -> tuple[int, bool]:
        """Look for the mark, outside all texts, that ends a call or begins the next."""
        if self.is_endless:
            return len(self.text), False
        for found in marks.END_OR_TEXT.finditer(self.text, at):
            if self.fence and found[0] == self.fence:
                return found.start(), True
            if found.lastgroup == "close":
                return found.end(), True
            if found.lastgroup == "open":
                return found.start(), False
            if found.lastgroup == "argument":
                return len(self.text), True
        self.is_endless = True  # looked for once, not from every mark again
        return len(self.text), False

    def _skip_separators(self, at: int) -> int:
        found = marks.SEPARATORS.match(self.text, at)
        return found.end() if found else at

    # Calls without such marks.

    def _read_fence(self, mark: re.Match[str]) -> int:
        if self.fence:
            self.fence = ""
            return mark.end()
        language = marks.FENCE_LANGUAGE.match(self.text, mark.end())
        at = skip_space(self.text, language.end() if language else mark.end())
        inner = marks.MARK.match(self.text, at)
        if inner and inner.lastgroup in ("open", "element", "json"):
            self.fence = mark[0]
            return at
        calls, end, error = read_python_calls(self.text, at, parameters=self.parameters)
        end = skip_space(self.text, end)
        if calls and not error and self.text.startswith(mark[0], end):
            for call in calls:
                self._add(call, "python", _FENCED)
            return end + len(mark[0])
        return self._skip_fence(mark[0], at) or mark.end()

    def _skip_fence(self, fence: str, at: int) -> int:
        """Return the offset behind a fence's end, 0 if it has none."""
        close = self.text.find(fence, at)
        return close + len(fence) if close >= 0 else 0

    def _read_loose_object(self, at: int) -> int:
        kind = _FENCED if self.fence else _BARE
        form: CallFormat = "fenced" if self.fence else "bare"
        if (several := marks.LIST.match(self.text, at)) and not self._is_whole(at):
            return several.end()
        try:
            decoded = decode(self.text, at)
        except Malformed as error:
            if marks.LIKE_A_CALL.match(self.text, at):
                self._fail(error, form, kind)
                return self._behind(error)
            end = max(at + 1, error.resume)
        else:
            end = decoded.end
            calls = find_calls(decoded.value, tools=self.parameters)
            if calls and not self._is_quoted(at, end):
                for call in calls:
                    self._add(call, form, kind, at=at, repairs=decoded.repairs)
                return end
        if not self.fence:
            return end
        fence, self.fence = self.fence, ""  # it holds data or code
        return self._skip_fence(fence, end) or end

    def _is_whole(self, at: int) -> bool:
        if at < self.broken_at:  # it stands inside one that is not
            return False
        try:
            decode(self.text, at)
        except Malformed as error:
            self.broken_at = error.at
            return False
        return True

    def _python_turn(self, at: int) -> int:
        """Read Python calls if they are all that is left of the turn."""
        text, start = self.text, skip_space(self.text, at)
        calls, end, error = read_python_calls(text, start, parameters=self.parameters)
        rest = text[self._skip_separators(end) : self.last]
        if error:
            is_turn = error.is_cut or text[self.last - 1] in ")]" or self._may_quote(start, error)
        else:
            is_turn = bool(calls) and any(name.startswith(rest) for name in self.parameters)
        if not is_turn:
            return at
        for call in calls:
            self._add(call, "python", _MARKED)
        if not error and rest:  # of a name: the end of the turn cut it off
            error = Malformed(len(text), "(...)", is_cut=True)
        if error:
            self._fail(error, "python", _MARKED)
        return len(text)

    def _skip_python_call(self, mark: re.Match[str]) -> int:
        """Go past a call in prose: it is not made, and neither is what stands in its texts."""
        head = HEAD.match(self.text, mark.start())
        if not head or head[1] not in self.parameters:
            return mark.end()
        try:
            return read_python_call(self.text, head, parameters=self.parameters)[1]
        except Malformed as error:
            is_lost = self._may_quote(mark.start(), error)
            return len(self.text) if is_lost else max(mark.end(), error.resume)

    def _may_quote(self, start: int, error: Malformed) -> bool:
        """Tell whether what is behind an unreadable call may stand in one of its texts."""
        return error.is_doubtful and any(quote in self.text[start : error.at] for quote in "\"'")

    # What was read.

    def _add(
        self,
        call: FoundCall,
        form: CallFormat,
        kind: int,
        *,
        at: int = 0,
        repairs: Iterable[Repair] = (),
    ) -> None:
        expected = call.expected
        if expected is None and count_nesting(call.arguments) > _MAX_DEPTH:
            expected = f"arguments at most {_MAX_DEPTH} brackets deep"
        if expected is not None:
            self._fail(Malformed(at, expected), form, kind, name=call.name)
            return
        found = ToolCall(
            name=call.name,
            arguments=dict(call.arguments),
            format=form,
            repairs=tuple(sorted({*call.repairs, *repairs})),
        )
        self.found.append((kind, found))

    def _fail(self, error: Malformed, form: CallFormat, kind: int, name: str = "") -> None:
        call = ToolCall(name=name, format=form, error=self.places.describe(error))
        self.found.append((kind, call))

    def _mend(self, repair: Repair) -> None:
        kind, call = self.found[-1]
        repairs = tuple(sorted({*call.repairs, repair}))
        self.found[-1] = kind, call.model_copy(update={"repairs": repairs})
