"""Calls that show lines which a repair needs, with what each costs, and the cheapest set of them.

A read is a range of lines, a whole file, or a search for a text that some needed line holds; one
search may show lines of several files at once. Of all texts that find the same lines the one of the
fewest tokens counts. Costs are those of a call and of its result in a turn with others; what a
whole episode holds is measured by playing it (`least_peak.py`).

Limits: in large workspaces not all texts are tried, first those of few tokens (`_MAX_SCANNED`).

Tests: tests/envs/readers/test_reads.py.
"""

import heapq
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile

from envs.policies import call
from envs.readers.needs import Line, join_lines, list_lines
from envs.records import ToolCall
from envs.rendering import ChatFormat
from envs.source_text import holds_bytes, source_lines
from envs.workspace import number_lines

_MAX_HITS = 20  # as `envs/tools.py` shows of a search
_MAX_SCANNED = 20_000_000  # characters looked at for one needed line
_MAX_STATES = 20_000  # of the search for the cheapest set; beyond it the best so far is finished
_LONGEST_RUN = 3  # tokens of a line that make a text to search for
_NEAR = 3  # tokens
_HEADER = "[o9 99/999]\n"
_EXAMPLES = {
    each.name: each
    for each in (
        call("read_lines", path="a.py", start=3, end=9),
        call("read_file", path="a.py"),
        call("search", pattern="a"),
        call("edit_lines", path="a.py", start=3, end=9, text="a"),
        call("compact", summary="a"),
        call("submit"),
    )
}


@dataclass(frozen=True)
class Read:
    """A call that shows needed lines.

    Attributes:
        call: The call.
        shows: The needed lines that its result shows.
        tokens: Of call and result.
        answer: Of the result's lines.
    """

    call: ToolCall
    shows: frozenset[Line]
    tokens: int
    answer: int


@dataclass(frozen=True)
class Sources:
    """The texts of a workspace, cut into lines once.

    Attributes:
        files: Path to text.
        chat: Counts tokens.
        most: Tokens of the largest result that is shown whole.
        most_texts: Texts whose tokens are counted for each set of lines that searches find.
    """

    files: Mapping[str, str]
    chat: ChatFormat
    most: int
    most_texts: int = 8
    _counted: dict[str, int] = field(default_factory=dict)

    @cached_property
    def lines(self) -> dict[str, list[str]]:
        """Lines of all files that hold text, in the order in which a search looks at them."""
        texts = {path: text for path, text in sorted(self.files.items()) if not holds_bytes(text)}
        return {path: source_lines(text) for path, text in texts.items()}

    def text_of(self, line: Line) -> str:
        """Return a line."""
        return self.lines[line[0]][line[1] - 1]

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        return len(self.chat.encode(text))

    @cached_property
    def whole(self) -> dict[str, str]:
        """The same lines, joined."""
        return {path: "\n".join(lines) for path, lines in self.lines.items()}

    @cached_property
    def _frames(self) -> dict[str, tuple[str, str, int]]:
        """What stands around the arguments of a call of each tool, and what that counts too much.

        Where arguments are not written as JSON, nothing: then they are counted alone.
        """
        frames = {}
        for name, example in _EXAMPLES.items():
            ids = self.chat.call_ids([example])
            before, written, after = self.chat.decode(ids).partition(_write(example))
            around = (before, after) if written else ("", "")
            too_many = self.count(_write(example).join(around)) - len(ids)
            frames[name] = (*around, too_many)
        return frames

    def count_call(self, wanted: ToolCall) -> int:
        """Return about how many tokens a call takes, without rendering it."""
        key = f"{wanted.name}{wanted.arguments}"
        if key not in self._counted:
            before, after, too_many = self._frames[wanted.name]
            self._counted[key] = self.count(before + _write(wanted) + after) - too_many
        return self._counted[key]

    def price(self, read: ToolCall, shown: str, *, shows: frozenset[Line]) -> Read | None:
        """Return a call with its costs; None if what is shown would be cut."""
        body = self.count(shown)
        tokens = self.count_call(read) + self.count(_HEADER) + body
        return None if body > self.most else Read(read, shows, tokens, body)


def list_reads(needed: frozenset[Line], sources: Sources) -> list[Read]:
    """Return the calls that show needed lines, the cheapest for each set of lines.

    Args:
        needed: The lines to see.
        sources: The workspace.
    """
    found: dict[frozenset[Line], Read] = {}
    for read in (*_ranges(needed, sources), *_searches(needed, sources)):
        if read.shows not in found or read.tokens < found[read.shows].tokens:
            found[read.shows] = read
    return list(found.values())


def list_covers(needed: frozenset[Line], reads: Sequence[Read]) -> Iterator[list[Read]]:
    """Yield reads that together show all needed lines: for the fewest tokens, then nearly so.

    Uniform-cost search: what is not shown yet and comes next is shown by each read in turn. Costs
    are a little uncertain, so sets that cost up to `_NEAR` tokens more come too. None comes if some
    line cannot be shown, being longer than a result may be.
    """
    parts = _cut_up(needed, reads)
    showing = {part: [read for read in reads if part <= read.shows] for part in parts}
    if not all(showing.values()):
        return
    share = {
        part: min(r.tokens / sum(p <= r.shows for p in parts) for r in showing[part])
        for part in parts
    }
    queue: list[tuple[float, int, int, frozenset[Line], tuple[Read, ...]]]
    queue = [(sum(share.values()), 0, 0, frozenset(), ())]
    best, count, least = {frozenset[Line](): 0}, 0, math.inf
    while queue:
        expected, _, spent, seen, chosen = heapq.heappop(queue)
        if expected > least + _NEAR:
            return
        rest = [part for part in parts if not part <= seen]
        if not rest:
            least = min(least, spent)
            yield list(chosen)
            continue
        is_late = count > _MAX_STATES
        queue = [] if is_late else queue  # from here on straight ahead
        for read in showing[rest[0]]:
            after, cost = seen | read.shows, spent + read.tokens
            if is_late or cost <= best.setdefault(after, cost) + _NEAR:
                best[after], count = min(cost, best.get(after, cost)), count + 1
                ahead = sum(share[part] for part in rest if not part <= after)
                heapq.heappush(queue, (cost + ahead, count, cost, after, (*chosen, read)))


def _cut_up(needed: frozenset[Line], reads: Sequence[Read]) -> list[frozenset[Line]]:
    """Return what is shown together: runs of lines, or single ones where no read shows a run."""
    parts: list[frozenset[Line]] = []
    for span in join_lines(needed):
        run = frozenset(list_lines([span]))
        whole = any(run <= read.shows for read in reads)
        parts += [run] if whole else [frozenset([line]) for line in sorted(run)]
    return parts


def _ranges(needed: frozenset[Line], sources: Sources) -> Iterable[Read]:
    """Yield whole files, and ranges from the beginning of a run of needed lines to an end of one.

    A run that is too long for one result is read in pieces.
    """
    for path in sorted({path for path, _ in needed}):
        runs = [(span.start, span.end) for span in join_lines(needed) if span.path == path]
        lines = sources.lines[path]
        whole = call("read_file", path=path)
        here = frozenset(at for at in needed if at[0] == path)
        if read := sources.price(whole, number_lines(lines, 1), shows=here):
            yield read
        for index, (start, end) in enumerate(runs):
            ends = [end for _, end in runs[index:]]
            if not _range(path, start, end, needed, sources):
                ends = []
                yield from _pieces(path, start, end, needed, sources)
            yield from takewhile(bool, (_range(path, start, e, needed, sources) for e in ends))


def _range(
    path: str, start: int, end: int, needed: frozenset[Line], sources: Sources
) -> Read | None:
    read = call("read_lines", path=path, start=start, end=end)
    shows = frozenset(at for at in needed if at[0] == path and start <= at[1] <= end)
    lines = sources.lines[path][start - 1 : end]
    return sources.price(read, number_lines(lines, start), shows=shows)


def _pieces(
    path: str, start: int, end: int, needed: frozenset[Line], sources: Sources
) -> Iterable[Read]:
    while start <= end:
        pieces = (_range(path, start, last, needed, sources) for last in range(start, end + 1))
        shown = list(takewhile(bool, pieces))
        if not shown or shown[-1] is None:
            return
        yield shown[-1]
        start += len(shown)


def _searches(needed: frozenset[Line], sources: Sources) -> Iterable[Read]:
    """Yield searches, for each set of lines those of the shortest texts."""
    texts: dict[tuple[Line, ...], list[str]] = {}
    size = 1 + sum(map(len, sources.files.values()))
    tried: set[str] = set()
    for line in [(span.path, span.start) for span in join_lines(needed)]:  # a run holds it or not
        tried_here = _list_texts(sources.text_of(line), sources.chat, most=_MAX_SCANNED // size)
        for text in [each for each in tried_here if each not in tried]:
            tried.add(text)
            hits = _find(text, sources)
            if hits and len(texts.setdefault(hits, [])) < sources.most_texts:
                texts[hits].append(text)
    for hits, some in texts.items():
        shown = "\n".join(f"{at[0]}:{at[1]}: {sources.text_of(at)}" for at in hits)
        read = min((call("search", pattern=text) for text in some), key=sources.count_call)
        if found := sources.price(read, shown, shows=needed.intersection(hits)):
            yield found


def _list_texts(line: str, chat: ChatFormat, *, most: int) -> list[str]:
    """Return texts within a line: of few tokens, then of few characters."""
    ids = chat.encode(line)
    runs = [
        chat.decode(ids[start : start + size])
        for size in range(1, _LONGEST_RUN + 1)
        for start in range(len(ids) - size + 1)
    ]
    parts = (
        line[start : start + size]
        for size in range(1, len(line) + 1)
        for start in range(len(line) - size + 1)
    )
    found = dict.fromkeys((*(run for run in runs if run in line), *parts))
    return [text for text in found if text.strip()][: max(len(runs), most)]


def _find(text: str, sources: Sources) -> tuple[Line, ...]:
    """Return the lines that hold a text; () if a search would not show all of them."""
    hits: list[Line] = []
    for path in [path for path, whole in sources.whole.items() if text in whole]:
        for number, line in enumerate(sources.lines[path], 1):
            if text in line:
                hits.append((path, number))
                if len(hits) > _MAX_HITS:
                    return ()
    return tuple(hits)


def _write(given: ToolCall) -> str:
    return json.dumps(given.arguments, ensure_ascii=False)
