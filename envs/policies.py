"""Scripted policies behind the same async interface as a model: gold, careful, wasteful, noop.

A script is a generator that yields the calls of one turn and receives the next view. `gold` edits
at once and is the yardstick; `careful` and `wasteful` read before they edit, with habits that a
seed draws, and know the fix as a teacher would; `noop` submits untouched. Scripts report
log-probs of 0: nothing was sampled.
"""

import ast
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from envs.records import Edit, HiddenTask, RepairTask, Sample, ToolCall, View
from envs.rendering import ChatFormat
from envs.source_text import source_lines
from envs.syntax import parse_python

_TURN_OVERHEAD_TOKENS = 110  # calls, headers and turn markers of one site's repair
_SMALL_RESULT_TOKENS = 12  # below it the stub is no shorter than the result

Script = Generator[list[ToolCall], View, None]
ScriptName = Literal["gold", "careful", "wasteful", "noop"]


@dataclass(frozen=True)
class Habits:
    """How a demonstrator works.

    Attributes:
        find: How it gets to the function: `search`, `outline`, or `file` (read the whole file).
        list_first: Lists the files first.
        test_before: Runs the tests before reading.
        test_after: Runs the tests before submitting.
        submit_with_edit: Submits in the turn of its last edit.
        note: Writes a note after each edit.
        reread: Reads the edited lines again.
        rewrite: What it does when the next site would not fit.
        eager: Rewrites between sites even when the next one would fit.
    """

    find: Literal["search", "outline", "file"] = "search"
    list_first: bool = False
    test_before: bool = False
    test_after: bool = False
    submit_with_edit: bool = False
    note: bool = False
    reread: bool = False
    rewrite: Literal["none", "evict", "compact"] = "evict"
    eager: bool = False


@dataclass(frozen=True)
class Site:
    """One edit of the gold patch and the function that encloses it, in the broken file's numbering.

    `text` is what a demonstrator reads of it: the function, or the whole file.
    """

    edit: Edit
    function: str
    start: int
    end: int
    text: str


def draw_habits(kind: Literal["careful", "wasteful"], *, rng: random.Random) -> Habits:
    """Draw one demonstrator of a kind; the mix of kinds is the configuration's."""
    rewrite: Literal["evict", "compact"] = "evict" if rng.random() < 0.5 else "compact"
    if kind == "careful":
        return Habits(
            find="search" if rng.random() < 0.7 else "outline",
            test_after=rng.random() < 0.3,
            submit_with_edit=rng.random() < 0.5,
            note=rng.random() < 0.1,
            rewrite=rewrite,
            eager=rng.random() < 0.1,
        )
    level = rng.choice((0.1, 0.5, 0.9))
    if rng.random() < 0.6:  # whoever reads whole files rarely frees enough by evicting them
        rewrite = "compact"
    return Habits(
        find=rng.choice(("outline", "file")),
        list_first=rng.random() < level,
        test_before=rng.random() < level,
        test_after=rng.random() < level,
        note=rng.random() < level / 2,
        reread=rng.random() < level / 2,
        rewrite=rewrite,
        eager=rng.random() < 0.1,
    )


class ScriptedPolicy:
    """Plays a script as a `Policy`.

    Args:
        script: The generator, not yet started.
        chat: Encodes calls as the model's template would.
        max_new_tokens: A longer turn is cut, as a model's would be.
    """

    def __init__(self, script: Script, *, chat: ChatFormat, max_new_tokens: int) -> None:
        self._script, self._chat, self._max_new_tokens = script, chat, max_new_tokens
        self._started = False

    async def act(self, view: View) -> Sample:
        """Return the script's next turn."""
        return self.next_sample(view)

    def next_sample(self, view: View) -> Sample:
        """Encode the script's next calls; submit when the script is over."""
        try:
            calls = self._script.send(view) if self._started else self._first(view)
        except StopIteration:
            calls = [call("submit")]
        ids = self._chat.call_ids(calls)
        cut = ids[: self._max_new_tokens]
        finish: Literal["stop", "length"] = "stop" if len(cut) == len(ids) else "length"
        return Sample(token_ids=cut, sampling_logps=(0.0,) * len(cut), finish=finish)

    def _first(self, view: View) -> list[ToolCall]:
        self._started = True
        next(self._script)  # runs to the first bare yield, where the script receives its first view
        return self._script.send(view)


def make_script(
    name: ScriptName,
    *,
    task: RepairTask,
    hidden: HiddenTask,
    files: dict[str, str],
    chat: ChatFormat,
    habits: Habits | None = None,
) -> Script:
    """Return a fresh script for one episode of `task`; `chat` lets it judge what still fits."""
    if name == "noop":
        return _noop()
    if name == "gold":
        return _gold(hidden.gold_edits)
    habits = habits or Habits()
    sites = _sites(hidden.gold_edits, files, whole_file=habits.find == "file")
    return _repair(sites, habits, chat)


def call(name: str, **arguments: object) -> ToolCall:
    """Build a call the way a model would write it."""
    return ToolCall(name=name, arguments=dict(arguments))


def _noop() -> Script:
    yield []
    yield [call("submit")]


def _gold(edits: Sequence[Edit]) -> Script:
    """Edit bottom-up, so that no edit moves the lines of the next.

    One per turn, submit with the last.
    """
    yield []
    ordered = sorted(edits, key=lambda e: (e.path, -e.start))
    for index, edit in enumerate(ordered):
        last = index == len(ordered) - 1
        yield [_edit_call(edit), *([call("submit")] if last else [])]


def _repair(sites: list[Site], habits: Habits, chat: ChatFormat) -> Script:
    view = yield []
    teller = _Teller(habits, view, chat)
    if habits.list_first:
        yield from teller.turn(call("list_files"))
    if habits.test_before:
        yield from teller.turn(call("run_tests", selector=""))
    for index, site in enumerate(sites):
        is_last = index == len(sites) - 1
        if index:
            yield from teller.make_room(site, done=sites[:index])
        yield from _find(teller, site, habits)
        edit = _edit_call(site.edit)
        if is_last and habits.submit_with_edit and not habits.test_after:
            yield [edit, call("submit")]
            return
        yield from teller.turn(edit)
        if habits.reread:
            yield from teller.turn(_read_call(site))
        if habits.note and not is_last:
            lines = f"{site.edit.start}-{site.edit.end}"
            yield from teller.turn(call("note", file=site.edit.path, facts="fixed", lines=lines))
    if habits.test_after:
        yield from teller.turn(call("run_tests", selector=""))
    yield [call("submit")]


def _find(teller: "_Teller", site: Site, habits: Habits) -> Generator[list[ToolCall], View, None]:
    if habits.find == "file":
        yield from teller.turn(call("read_file", path=site.edit.path))
        return
    if habits.find == "outline":
        yield from teller.turn(call("outline", path=site.edit.path))
    else:
        yield from teller.turn(call("search", pattern=f"def {site.function}"))
    yield from teller.turn(_read_call(site))


@dataclass
class _Teller:
    """Plays turns and keeps the last view; drops what is used up when room gets short."""

    habits: Habits
    view: View
    chat: ChatFormat
    pending: list[ToolCall] = field(default_factory=list)

    def turn(self, *calls: ToolCall) -> Generator[list[ToolCall], View, None]:
        pending, self.pending = self.pending, []
        self.view = yield [*pending, *calls]

    def make_room(self, site: Site, *, done: list[Site]) -> Generator[list[ToolCall], View, None]:
        seen = self.view.observations
        needed = len(self.chat.encode(site.text)) + 2 * len(self.chat.encode(site.edit.text))
        fits = not seen or seen[-1].remaining_tokens >= needed + _TURN_OVERHEAD_TOKENS
        if fits and not (self.habits.eager and seen):
            return
        if self.habits.rewrite == "evict":
            used_up = [o.id for o in seen if o.num_tokens > _SMALL_RESULT_TOKENS]
            if used_up:  # in the turn of the next call: a turn of its own would cost a prompt
                self.pending = [call("evict", observation_ids=used_up)]
        elif self.habits.rewrite == "compact":
            names = ", ".join(each.function for each in done)
            yield from self.turn(call("compact", summary=f"fixed {names}"))


def _edit_call(edit: Edit) -> ToolCall:
    return call("edit_lines", path=edit.path, start=edit.start, end=edit.end, text=edit.text)


def _read_call(site: Site) -> ToolCall:
    return call("read_lines", path=site.edit.path, start=site.start, end=site.end)


def _sites(edits: Sequence[Edit], files: dict[str, str], *, whole_file: bool) -> list[Site]:
    """Locate the innermost function around each edit; bottom-up within a file."""
    sites = []
    for edit in sorted(edits, key=lambda e: (e.path, -e.start)):
        name, start, end = "", max(1, edit.start - 5), edit.end + 5
        for node in ast.walk(parse_python(files[edit.path])):  # outer nodes come before inner ones
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                last = node.end_lineno or node.lineno
                at = min(edit.start, edit.end)  # an insertion stands behind the line `end`
                if node.lineno <= at <= last:
                    name, start, end = node.name, node.lineno, last
        lines = source_lines(files[edit.path])
        text = files[edit.path] if whole_file else "\n".join(lines[start - 1 : end])
        sites.append(Site(edit=edit, function=name, start=start, end=end, text=text))
    return sites
