"""Scripted policies behind the same async interface as a model: gold, careful, wasteful, noop.

A script is a generator that yields the calls of one turn and receives the next view. `gold` edits
at once and is the yardstick; `careful` and `wasteful` have the lines in view before they edit them,
with habits that a seed draws, and know the fix as a teacher would: what they cannot get to see they
leave alone. `noop` submits untouched. Scripts report log-probs of 0: nothing was sampled.
"""

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from envs.records import Edit, HiddenTask, Observation, RepairTask, Sample, ToolCall, View
from envs.rendering import ChatFormat
from envs.sites import Site, find_sites

_TURN_OVERHEAD_TOKENS = 110  # calls, headers and turn markers of one site's repair
_SMALL_RESULT_TOKENS = 12  # below it the stub is no shorter than the result
_HEADER = "[o9 99/99]\n"  # of a result where room is short

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
        self._waiting: list[ToolCall] = []  # of a turn with more calls than the template writes

    async def act(self, view: View) -> Sample:
        """Return the script's next turn."""
        return self.next_sample(view)

    def next_sample(self, view: View) -> Sample:
        """Encode the script's next calls; submit when the script is over."""
        calls = self._waiting or self._next_calls(view)
        most = self._chat.max_calls or len(calls)
        calls, self._waiting = calls[:most], calls[most:]
        ids = self._chat.call_ids(calls)
        cut = ids[: self._max_new_tokens]
        finish: Literal["stop", "length"] = "stop" if len(cut) == len(ids) else "length"
        return Sample(token_ids=cut, sampling_logps=(0.0,) * len(cut), finish=finish)

    def _next_calls(self, view: View) -> list[ToolCall]:
        try:
            return self._script.send(view) if self._started else self._first(view)
        except StopIteration:
            return [call("submit")]

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
    return _repair(find_sites(hidden.gold_edits, files), habits, chat)


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
        submits = is_last and habits.submit_with_edit and not habits.test_after
        if index:
            yield from teller.make_room(site, done=sites[:index], submits=submits)
        yield from _look(teller, site, done=sites[:index])
        if not teller.sees(site):
            break
        edit = _edit_call(site.edit)
        if submits:
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


def _look(
    teller: "_Teller", site: Site, *, done: list[Site]
) -> Generator[list[ToolCall], View, None]:
    """Find and read a site until the lines of its edit are in view; results may come cut."""
    habits = teller.habits_for(site)
    yield from _find(teller, site, habits)
    if not teller.sees(site) and not teller.fits(site, text=site.text) and habits.rewrite != "none":
        # it was the window that cut it
        yield from teller.compact(done)
        yield from _find(teller, site, habits)
    end = site.end
    if habits.find == "file" and not teller.sees(site):  # the cap cut it
        end, shown = len(site.lines), teller.last_shown(site)
        if end - shown > shown and site.function:  # more than one further result
            end = site.end
            teller.too_long.add(site.edit.path)
            if habits.rewrite != "none":  # what was cut before the site is of no more use
                teller.pending = [_evict_call(teller.view.observations[-1:])]
            yield from _find(teller, site, replace(habits, find="search"))
    while not teller.sees(site):
        last = teller.last_shown(site)
        if not 0 < last < end:
            return
        yield from teller.turn(call("read_lines", path=site.edit.path, start=last + 1, end=end))


def _find(teller: "_Teller", site: Site, habits: Habits) -> Generator[list[ToolCall], View, None]:
    for step in _finding(site, habits):
        yield from teller.turn(step)


def _finding(site: Site, habits: Habits) -> list[ToolCall]:
    if habits.find == "file":
        return [call("read_file", path=site.edit.path)]
    if habits.find == "outline":
        return [call("outline", path=site.edit.path), _read_call(site)]
    return [call("search", pattern=site.search), _read_call(site)]


@dataclass
class _Teller:
    """Plays turns and keeps the last view; drops what is used up when room gets short."""

    habits: Habits
    view: View
    chat: ChatFormat
    pending: list[ToolCall] = field(default_factory=list)
    too_long: set[str] = field(default_factory=set)

    def turn(self, *calls: ToolCall) -> Generator[list[ToolCall], View, None]:
        pending, self.pending = self.pending, []
        self.view = yield [*pending, *calls]

    def sees(self, site: Site) -> bool:
        """Tell whether all lines of the edit are in view; sites come bottom-up, so none moved."""
        shown = [span for seen in self.view.observations for span in seen.spans]
        here = [(span.start, span.end) for span in shown if span.path == site.edit.path]
        return all(any(a <= line <= b for a, b in here) for line in site.to_see)

    def last_shown(self, site: Site) -> int:
        """Return the last line of the site's file that the last result shows; 0 if none."""
        spans = self.view.observations[-1].spans if self.view.observations else ()
        return max((span.end for span in spans if span.path == site.edit.path), default=0)

    def habits_for(self, site: Site) -> Habits:
        """Return how it finds a site: no file is read whole again that was too long for that."""
        is_long = site.edit.path in self.too_long
        return replace(self.habits, find="search") if is_long else self.habits

    def fits(self, site: Site, *, text: str) -> bool:
        """Tell whether a site's repair fits into what the window leaves."""
        seen = self.view.observations
        needed = self._tokens(text)
        needed += 2 * self._tokens(site.edit.text) + _TURN_OVERHEAD_TOKENS
        return not seen or seen[-1].remaining_tokens >= needed

    def make_room(
        self, site: Site, *, done: list[Site], submits: bool
    ) -> Generator[list[ToolCall], View, None]:
        seen, whole_file = self.view.observations, self.habits_for(site).find == "file"
        fits = self.fits(site, text="\n".join(site.lines) if whole_file else site.text)
        if fits and not (self.habits.eager and seen):
            return
        if self.habits.rewrite == "evict":
            used_up = [o for o in seen if o.num_tokens > _SMALL_RESULT_TOKENS]
            evict = _evict_call(used_up)
            if used_up and (
                fits or whole_file or self._left_after(evict, used_up, site, submits=submits) >= 0
            ):
                self.pending = [evict]  # a turn of its own would cost a prompt
                return
            if fits:
                return
        yield from self.compact(done)

    def compact(self, done: list[Site]) -> Generator[list[ToolCall], View, None]:
        if self.habits.rewrite != "none":
            names = ", ".join(each.function for each in done) or "nothing yet"
            yield from self.turn(call("compact", summary=f"fixed {names}"))

    def _left_after(
        self, evict: ToolCall, used_up: list[Observation], site: Site, *, submits: bool
    ) -> int:
        """Return the tokens left once results are evicted and a site is found, read and edited."""
        site_lines = site.lines[site.start - 1 : site.end]
        read = _numbered(site_lines, site.start)
        find, *_ = _finding(site, self.habits_for(site))
        found = {
            "outline": site.outline,
            "search": f"{site.edit.path}:{site.start}: {site_lines[0]}",
        }
        turns = [
            ([evict, find], ["evicted", found[find.name]]),
            ([_read_call(site)], [read]),
        ]
        if not submits:
            shown = _numbered(site_lines[-3:], site.edit.start)
            turns.append(([_edit_call(site.edit)], [f"edited\n{shown}"]))
        stubs = (f"[{o.id} out {site.edit.path}:{site.start}-{site.end}]" for o in used_up)
        left = self.view.observations[-1].remaining_tokens
        left += sum(self._tokens(o.text) for o in used_up) - sum(map(self._tokens, stubs))
        for calls, results in turns:
            most = self.chat.max_calls or len(calls)
            for part in (calls[i : i + most] for i in range(0, len(calls), most)):
                glue = self.chat.glue([each.name for each in part])
                left -= len(self.chat.call_ids(part)) + len(glue.head_ids + glue.tail_ids)
                left -= sum(map(len, glue.separator_ids))
            left -= sum(self._tokens(_HEADER + result) for result in results)
        return left

    def _tokens(self, text: str) -> int:
        return len(self.chat.encode(text))


def _evict_call(observations: Sequence[Observation]) -> ToolCall:
    return call("evict", observation_ids=[each.id for each in observations])


def _edit_call(edit: Edit) -> ToolCall:
    return call("edit_lines", path=edit.path, start=edit.start, end=edit.end, text=edit.text)


def _read_call(site: Site) -> ToolCall:
    return call("read_lines", path=site.edit.path, start=site.start, end=site.end)


def _numbered(lines: Sequence[str], start: int) -> str:
    return "\n".join(f"{number}: {line}" for number, line in enumerate(lines, start))
