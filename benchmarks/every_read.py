"""All reads of a task that may be worth making, with the fewest tokens that each takes.

Ranges from one needed line to another, files, and searches for any text of a needed line, each
whole or cut behind any line that it shows; and the edits, with what they are answered. Two modules
of the benchmark least_peak.py: this one lists, reader_bound.py finds the cheapest plan.

Counted is what a call and its result take in a turn with others, where these are rendered one
behind the other and digits are tokens of their own. That is checked, not assumed. Not covered, and
refused: edits that move lines, or stand so near that one shows the other.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, product

from envs.context.fitting import MIN_OBSERVATION_TOKENS
from envs.policies import call
from envs.readers.needs import Line
from envs.readers.plans import edit_call
from envs.readers.play import Game
from envs.records import ToolCall
from envs.source_text import source_lines
from envs.tools import Toolbox, no_sandbox
from envs.workspace import Workspace, number_lines

SUBMIT = call("submit")
GAIN = 7  # tokens that a cut result may leave of its room: digits of its header, and one
_MOST_HITS = 20  # as envs/tools.py shows of a search
_NAMES = ("read_lines", "read_file", "search", "edit_lines")


class NotCovered(Exception):
    """The task or the template is one of which nothing is proved."""


@dataclass(frozen=True)
class Column:
    """A range or a file.

    Attributes:
        call: The call.
        shows: The needed lines that its result shows.
        call_tokens: Of the call.
        tokens: Of call and result.
    """

    call: ToolCall
    shows: frozenset[Line]
    call_tokens: int
    tokens: int


@dataclass(frozen=True)
class Search:
    """What a search shows, of its first hits; lines that it finds no more once edited are apart.

    Attributes:
        texts: Any of them may be searched for.
        hits: Needed lines among those that are found in any case.
        rows: The tokens of all of these, with lines that nobody needs.
        edited: Lines that are shown too, for their tokens each, if they are not edited yet.
    """

    texts: tuple[str, ...]
    hits: frozenset[Line]
    rows: int
    edited: tuple[Line, ...]


@dataclass
class Tokens:
    """What calls, results and turns take in a chat format.

    Raises:
        NotCovered: Not the sum of their parts.
    """

    game: Game

    def __post_init__(self) -> None:
        chat, names = self.game.chat, _NAMES
        one = {chat.surround_results([name]).num_tokens for name in names}
        two = {chat.surround_results(pair).num_tokens for pair in product(names, names)}
        if len(one) > 1 or len(two) > 1:
            raise NotCovered("results are rendered by the name of their tool")
        self.between = two.pop() - max(one)
        self.end = 2 * len(chat.call_ids([SUBMIT])) - len(chat.call_ids([SUBMIT, SUBMIT]))
        self.turn = self.end + one.pop() - self.between
        self._header = self._encode_header(1, 1, 1) - 3
        for number in (7, 10, 36, 99, 100, 512, 999, 1234):
            if self._encode_header(number, number, number) != self.header(number, number, number):
                raise NotCovered("digits are no tokens of their own")

    def _encode_header(self, number: int, size: int, left: int) -> int:
        text = f"[o{number} {size}/{left}]\n"
        return len(self.game.chat.encode_result(text, continues=True))

    def header(self, *numbers: int) -> int:
        """Return the tokens of a header with the number of a result, its size and what is left."""
        return self._header + sum(len(str(number)) for number in numbers)

    def call(self, wanted: ToolCall) -> int:
        """Return the tokens of a call within a turn."""
        return self.game.sources.count_call(wanted) - self.end

    def check(self, wanted: ToolCall) -> None:
        """Refuse a call that takes more or less beside another one."""
        pair = len(self.game.chat.call_ids([wanted, SUBMIT]))
        if pair != self.call(wanted) + self.call(SUBMIT) + self.end:
            raise NotCovered("calls of a turn are not rendered one behind the other")

    def result(self, text: str) -> int:
        """Return the least tokens of a result with its header, before the next one."""
        size = self.body(text)
        return self.between + self.header(1, size, 1) + size

    def body(self, text: str) -> int:
        """Return the tokens of a result without its header."""
        return len(self.game.chat.encode_result(text))


class Universe:
    """All reads of a task that may be worth making, and its edits, each by a call of its own.

    Attributes:
        needed: The lines that have to be seen.
        edited: Those that are edited, and what they become.
        edits: The calls, with `calls`, their tokens, and `answers`, those of the whole answers.

    Raises:
        NotCovered: See the top of the file.
    """

    def __init__(self, game: Game) -> None:
        self.game, self.tokens = game, Tokens(game)
        self.needed = sorted(frozenset[Line]().union(*(need.to_see for need in game.needs)))
        self.edited = {(n.edit.path, n.edit.start): n.edit.text.rstrip("\n") for n in game.needs}
        self._check_edits()
        self.edits = [edit_call(need.edit) for need in game.needs]
        for each in self.edits:
            self.tokens.check(each)
        self.calls = [self.tokens.call(each) for each in self.edits]
        self.answers = [self._answer(each) for each in self.edits]
        self._cheapest: dict[tuple[str, ...], ToolCall] = {}
        self._found: dict[Line, int] = {}
        self._newline = self._count_newline()

    def _check_edits(self) -> None:
        for need in self.game.needs:
            edit, others = need.edit, [each.edit for each in self.game.needs]
            near = [each for each in others if each.path == edit.path]
            if len(source_lines(edit.text)) != edit.end - edit.start + 1 or edit.end > edit.start:
                raise NotCovered("an edit moves lines, or is of several")
            if len(near) > 2 or any(0 < abs(each.start - edit.start) < 8 for each in near):
                raise NotCovered("edits stand near each other")

    def _answer(self, edit: ToolCall) -> int:
        workspace = Workspace.of(self.game.files, self.game.task.editable)
        (result,) = Toolbox(workspace, run_visible=no_sandbox).run_turn([edit])
        return self.tokens.result(result.text)

    @cached_property
    def rows(self) -> dict[Line, int]:
        """Tokens of each line of a file with needed lines, as a range shows it."""
        lines, paths = self.game.sources.lines, {path for path, _ in self.needed}
        return {
            (path, at): self.tokens.body(f"{at}: {text}")
            for path in paths
            for at, text in enumerate(lines[path], 1)
        }

    def _count_newline(self) -> int:
        """Return the tokens between two lines that a search finds; 0 if not always the same."""
        for path, lines in self.game.sources.lines.items():
            rows = [f"{path}:{at}: {text}" for at, text in enumerate(lines, 1) if text.strip()]
            parts = sum(map(self.tokens.body, rows)) + len(rows) - 1
            if self.tokens.body("\n".join(rows)) != parts:
                return 0
        return 1

    def _read(self, wanted: ToolCall, shows: Iterable[Line], body: int) -> Column:
        own, tokens = self.tokens.call(wanted), self.tokens
        header = tokens.between + tokens.header(1, body, 1)
        return Column(wanted, frozenset(shows), own, own + header + body)

    @cached_property
    def ranges(self) -> list[Column]:
        """Ranges and files."""
        return list(self._list_ranges())

    def _list_ranges(self) -> Iterator[Column]:
        """Yield ranges from one needed line to another, and files, whole or cut behind one."""
        most = self.game.limits.observation_tokens
        for path in sorted({path for path, _ in self.needed}):
            here = [number for other, number in self.needed if other == path]
            for start, end in combinations_with_replacement(here, 2):
                body = self._sum(path, start, end)
                if body <= most:
                    shown = [(path, number) for number in here if start <= number <= end]
                    read = call("read_lines", path=path, start=start, end=end)
                    yield self._read(read, shown, body)
            whole = self._sum(path, 1, len(self.game.sources.lines[path]))
            for end in here:
                shown = [(path, number) for number in here if number <= end]
                body = min(self._sum(path, 1, end) + self.note, whole)
                yield self._read(call("read_file", path=path), shown, body)

    def _sum(self, path: str, start: int, end: int) -> int:
        lines = self.game.sources.lines[path][start - 1 : end]
        return self.tokens.body(number_lines(lines, start))

    @cached_property
    def note(self) -> int:
        """Tokens of the line that stands behind what was cut."""
        return self.tokens.body("[cut, 1 more lines: use read_lines]")

    @cached_property
    def late(self) -> int:
        """Tokens by which the last read of the last turn must have more room than it takes."""
        size = 10 ** (len(str(self.game.limits.observation_tokens)) - 1)
        return self.tokens.header(1, 9999, 9999) - self.tokens.header(1, size, 1)

    @cached_property
    def small(self) -> int:
        """Tokens of the largest result behind one that was cut to less than the least room.

        That leaves so few tokens; a result of which some lines stay has no less.
        """
        some = self.tokens.header(1, 1, 1) + self.tokens.body("edited") + self.note
        assert some >= MIN_OBSERVATION_TOKENS, "a result that was cut may be small"
        return MIN_OBSERVATION_TOKENS + GAIN - self.tokens.header(1, 9999, 9999)

    @cached_property
    def unused(self) -> int:
        """Tokens that a turn with a cut result leaves at most, but for what is left of small ones.

        A cut result fills its room but for a line. That room is what is left, less the least room
        of each later result: what one of these does not take of its own is left, too.
        """
        return GAIN + max(*self.rows.values(), *map(self.found, self.rows))

    def call_of(self, search: Search) -> ToolCall:
        """Return the cheapest of the calls that find the same."""
        if search.texts not in self._cheapest:
            calls = [call("search", pattern=text) for text in search.texts]
            self._cheapest[search.texts] = min(calls, key=self.tokens.call)
        return self._cheapest[search.texts]

    def count_call(self, search: Search) -> int:
        """Return the tokens of that call."""
        return self.tokens.call(self.call_of(search))

    def count_search(self, search: Search, own: int) -> int:
        """Return the tokens of a search and its result, without lines that may be edited."""
        header = self.tokens.header(1, max(1, search.rows), 1)
        return own + self.tokens.between + header + search.rows

    @cached_property
    def searches(self) -> list[tuple[list[str], tuple[Line, ...], frozenset[Line]]]:
        """Texts of needed lines with the lines that hold them, once for each set of lines.

        And with those among these that do so no more once they are edited.
        """
        lines = self.game.sources.lines
        texts = {part for line in self.needed for part in _parts(self.game.sources.text_of(line))}
        where = defaultdict[str, list[Line]](list)
        for path, file in lines.items():
            for number, text in enumerate(file, 1):
                for part in texts.intersection(_parts(text)):
                    where[part].append((path, number))
        found = defaultdict[tuple[tuple[Line, ...], frozenset[Line]], list[str]](list)
        for part, hits in where.items():
            lost = {line for line in hits if part not in self.edited.get(line, part)}
            found[tuple(hits), frozenset(lost)].append(part)
        return [(some, hits, lost) for (hits, lost), some in found.items()]

    @cached_property
    def least_call(self) -> int:
        """Tokens of a search for a text of one token."""
        return self.tokens.call(call("search", pattern="a"))

    def found(self, line: Line) -> int:
        """Return the tokens of a line, edited or not, in a search's result, with the one before."""
        if line not in self._found:
            texts = {text := self.game.sources.text_of(line), self.edited.get(line, text)}
            rows = [f"{line[0]}:{line[1]}: {each}" for each in texts]
            self._found[line] = min(map(self.tokens.body, rows)) + self._newline
        return self._found[line]


def _parts(text: str) -> set[str]:
    """Return all texts within a line."""
    ends = range(1, len(text) + 1)
    return {text[start:end] for end in ends for start in range(end)}


def list_searches(universe: Universe) -> Iterator[Search]:
    """Yield all searches, each whole and cut behind any needed line."""
    needed, most = set(universe.needed), universe.game.limits.observation_tokens
    for texts, all_hits, lost in universe.searches:
        edited = tuple(sorted(lost))
        hits = [line for line in all_hits if line not in lost]
        rest = sum(map(universe.found, hits))
        shown, rows = set[Line](), 0
        if edited:
            yield Search(tuple(texts), frozenset(), min(rest, universe.note), edited)
        for place, line in enumerate(hits[:_MOST_HITS]):
            rows += universe.found(line)
            rest -= universe.found(line)
            if rows > most:
                break
            if line in needed:
                shown.add(line)
                body = rows + min(rest, universe.note)
                if place + 1 == len(hits) or hits[place + 1] not in needed or body < rows + rest:
                    yield Search(tuple(texts), frozenset(shown), body, edited)
