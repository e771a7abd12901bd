"""Scripted policies behind the same async interface as a model: gold, careful, wasteful, noop.

A script is a generator that yields the calls of one turn and receives the next view. `gold` edits
at once and is the yardstick; `careful` and `wasteful` have the lines in view before they edit them,
in one of the habits of `envs/habits/options.py`, and know the fix as a teacher would: what they
cannot get to see they leave alone. `noop` submits untouched. Scripts report log-probs of 0: nothing
was sampled.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Literal

from envs.context.room import Room
from envs.habits.mistakes import make_mistake
from envs.habits.options import Find, ScriptOptions
from envs.records import (
    Edit,
    HiddenTask,
    Ids,
    Observation,
    RepairTask,
    Sample,
    Span,
    ToolCall,
    View,
)
from envs.rendering import ChatFormat
from envs.sites import Site, edit_call, evict_call, find_sites, list_finding_calls, read_call
from envs.source_text import source_lines
from envs.workspace import number_lines

_TURN_OVERHEAD_TOKENS = 110  # calls, headers and turn markers of one site's repair
_SMALL_RESULT_TOKENS = 12  # below it the stub is no shorter than the result
_MAX_LOOKS = 3  # for one site

Script = Generator[list[ToolCall], View, None]
ScriptName = Literal["gold", "careful", "wasteful", "noop"]


class ScriptedPolicy:
    """Plays a script as a `Policy`.

    Args:
        script: The generator, not yet started.
        chat: Encodes calls as the model's template would.
        max_new_tokens: Calls that do not fit into one turn wait for the next; a single call that is
            longer is cut, as a model's would be.
    """

    def __init__(self, script: Script, *, chat: ChatFormat, max_new_tokens: int) -> None:
        self._script, self._chat, self._max_new_tokens = script, chat, max_new_tokens
        self._waiting: list[ToolCall] = []  # of a turn with more calls than it holds
        self._edited: list[str] = []
        next(script)  # runs to the first bare yield, where the script receives its first view

    async def act(self, view: View) -> Sample:
        """Return the script's next turn."""
        return self.next_sample(view)

    def next_sample(self, view: View) -> Sample:
        """Encode the script's next calls; submit when the script is over.

        A request for a summary is answered here, and the script goes on with the view after it.
        """
        if view.asks_summary:
            summary = "edited " + (", ".join(self._edited) or "nothing")
            return self._cut((*self._chat.encode(summary), self._chat.eot_id))
        try:
            calls = self._waiting or self._script.send(view)
        except StopIteration:
            calls = [call("submit")]
        most = self._chat.max_calls or len(calls)
        ids = self._chat.call_ids(calls[:most])
        while len(ids) > self._max_new_tokens and most > 1:
            most = min(most, len(calls)) - 1
            ids = self._chat.call_ids(calls[:most])
        calls, self._waiting = calls[:most], calls[most:]
        edits = (each.arguments for each in calls if each.name == "edit_lines")
        self._edited += [f"{edit['path']}:{edit['start']}" for edit in edits]
        return self._cut(ids)

    def _cut(self, ids: Ids) -> Sample:
        cut = ids[: self._max_new_tokens]
        finish: Literal["stop", "length"] = "stop" if len(cut) == len(ids) else "length"
        return Sample(token_ids=cut, sampling_logps=(0.0,) * len(cut), finish=finish)


def make_script(
    name: ScriptName,
    *,
    task: RepairTask,
    hidden: HiddenTask,
    files: dict[str, str],
    chat: ChatFormat,
    options: ScriptOptions | None = None,
    max_new_tokens: int = 0,
) -> Script:
    """Return a fresh script for one episode of `task`.

    `chat` lets it judge what still fits, `max_new_tokens` how large the window is: by the output
    reserve larger than the largest view.
    """
    if name == "noop":
        return _noop()
    if name == "gold":
        return _gold(hidden.gold_edits)
    runner = ScriptRunner(options or ScriptOptions(), chat, files, reserve_tokens=max_new_tokens)
    return runner.repair(find_sites(hidden.gold_edits, files, needed=hidden.gold_spans))


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
        yield [edit_call(edit), *([call("submit")] if last else [])]


class ScriptRunner:
    """Repairs one site after another; drops what is used up when room gets short.

    Args:
        options: How it works.
        chat: Encodes calls and results, to judge what still fits.
        files: The broken workspace.
        reserve_tokens: Of the window, for what is sampled.
    """

    def __init__(
        self,
        options: ScriptOptions,
        chat: ChatFormat,
        files: Mapping[str, str],
        *,
        reserve_tokens: int = 0,
    ) -> None:
        self._options, self._files = options, files
        self._room = Room(chat, reserve_tokens=reserve_tokens)
        self._can_compact = options.rewrite != "none" and "compact" not in options.without
        self._view: View  # the last one
        self._done: list[Site] = []
        self._pending: list[ToolCall] = []  # an evict that goes with the next turn
        self._too_long: set[str] = set()  # files that are not read whole again
        self._planned: list[Site] = []  # noted with their lines
        self._found: Site | None = None  # where it is at work
        self._mistake = options.mistake  # yet to be made

    def repair(self, sites: Sequence[Site]) -> Script:
        """Play the whole script; sites come bottom-up within a file, so none moves."""
        options = self._options
        self._view = yield []
        if options.list_first:
            yield from self._turn(call("list_files"))
        if options.test_before:
            yield from self._turn(call("run_tests", selector=""))
        if options.plan:
            yield from self._plan(sites)
        for site in sites:
            is_last = site is sites[-1]
            submits = is_last and options.submit_with_edit and not options.test_after
            if self._done:
                yield from self._make_room(site, submits=submits)
            calls = [edit_call(site.edit), *([call("submit")] if submits else [])]
            yield from self._gather(site, calls)
            if not self._sees_all(site):
                break
            yield from self._make_wrong(calls[0], site)
            if not (is_last or options.reread or options.note):
                calls += self._close(site)
            yield from self._turn(*calls)
            if submits:
                return
            if options.reread:
                yield from self._turn(self._read(site.edit.path, site.start, site.end))
            if options.note and not is_last:
                lines = f"{site.edit.start}-{site.edit.end}"
                yield from self._turn(call("note", file=site.edit.path, facts="fixed", lines=lines))
            self._done.append(site)
            self._found = None
        if options.test_after:
            yield from self._turn(call("run_tests", selector=""))
        yield [call("submit")]

    def _turn(self, *calls: ToolCall) -> Script:
        is_late = self._options.late and calls[0].name not in ("compact", "edit_lines")
        if is_late and not self._room.goes_on(self._view, calls):
            yield from self._compact(self._found)
        pending, self._pending = self._pending, []
        self._view = yield [*pending, *calls]

    def _make_wrong(self, right: ToolCall, site: Site) -> Script:
        """Make the mistake that is still to be made, if `right` is a call for it."""
        wrong = self._mistake and make_mistake(self._mistake, right, lines=site.lines)
        if not wrong or self._pending:  # an evict is no part of a mistake
            return
        self._mistake = None
        yield from self._turn(wrong)
        if wrong.name == "edit_lines" and self._options.mistake == "wrong_fix":
            yield from self._turn(call("run_tests", selector=""))

    def _plan(self, sites: Sequence[Site]) -> Script:
        """Find all sites, then note what will be read; so no rewrite makes it look again."""
        find = self._options.find
        if find == "file":  # which would read before the plan
            find = "outline" if "search" in self._options.without else "search"
        found = [list_finding_calls(site, find)[0] for site in sites]
        yield from self._turn(*(each for n, each in enumerate(found) if each not in found[:n]))
        notes = [
            call("note", file=site.edit.path, facts=f"read {site.function}".strip(), lines=lines)
            for site, lines in ((site, f"{site.start}-{site.end}") for site in sites)
        ]
        yield from self._turn(*notes)
        self._planned = list(sites)

    def _gather(self, site: Site, then: Sequence[ToolCall]) -> Script:
        """Get a site and its facts into view for some calls, again where a rewrite drops some."""
        for attempt in range(_MAX_LOOKS):
            before = self._view.num_rewrites
            if not attempt or not self._sees(site):
                yield from self._look(site)
            yield from self._learn(site)
            goes_on = not self._options.late or self._room.goes_on(self._view, then)
            if self._sees_all(site) and goes_on:
                return
            if self._view.num_rewrites == before and self._sees(site):
                yield from self._compact(site)  # it was the window that cut a fact
            if self._view.num_rewrites == before:
                return

    def _learn(self, site: Site) -> Script:
        """Read what the repair needs from elsewhere, unless it is in view."""
        for fact in site.facts:
            if not self._view.shows(fact):
                yield from self._turn(self._read(fact.path, fact.start, fact.end))

    def _look(self, site: Site) -> Script:
        """Look for a site, and again where the strategy dropped what was found."""
        for _ in range(_MAX_LOOKS):
            before = self._view.num_rewrites
            yield from self._look_once(site)
            if self._sees(site) or self._view.num_rewrites == before:
                return

    def _look_once(self, site: Site) -> Script:
        """Find and read a site until the lines of its edit are in view; results may come cut."""
        rewrites, find = self._options.rewrite != "none", self._way_to_find(site)
        yield from self._find(site, find)
        if not self._sees(site) and not self._fits(site, text=site.text) and rewrites:
            yield from self._compact(site)  # it was the window that cut it
            yield from self._find(site, find)
        if "read_lines" in self._options.without:
            return
        end = site.end
        if find == "file" and not self._sees(site):  # the cap cut it
            end, shown = len(site.lines), self._last_shown(site)
            is_far = end - shown > shown  # more than one further result
            if is_far and site.function and "search" not in self._options.without:
                end = site.end
                self._too_long.add(site.edit.path)
                if rewrites and "evict" not in self._options.without:  # what was cut is used up
                    self._pending = [evict_call(self._view.observations[-1:])]
                yield from self._find(site, "search")
        while not self._sees(site):
            last = self._last_shown(site)
            if not 0 < last < end:
                return
            yield from self._turn(call("read_lines", path=site.edit.path, start=last + 1, end=end))

    def _find(self, site: Site, find: Find) -> Script:
        steps = list_finding_calls(site, find)
        if site in self._planned and find != "file":  # a note, or the summary, says where it is
            steps = [read_call(site)]
        for step in steps:
            yield from self._make_wrong(step, site)
            yield from self._turn(step)
            self._found = site

    def _read(self, path: str, start: int, end: int) -> ToolCall:
        if "read_lines" in self._options.without:
            return call("read_file", path=path)
        return call("read_lines", path=path, start=start, end=end)

    def _way_to_find(self, site: Site) -> Find:
        return "search" if site.edit.path in self._too_long else self._options.find

    def _sees_all(self, site: Site) -> bool:
        return self._sees(site) and all(map(self._view.shows, site.facts))

    def _sees(self, site: Site) -> bool:
        """Tell whether all lines of the edit are in view."""
        lines = site.to_see
        wanted = Span(path=site.edit.path, start=lines[0], end=lines[-1]) if lines else None
        return wanted is None or self._view.shows(wanted)

    def _last_shown(self, site: Site) -> int:
        """Return the last line of the site's file that the last result shows; 0 if none."""
        spans = self._view.observations[-1].spans if self._view.observations else ()
        return max((span.end for span in spans if span.path == site.edit.path), default=0)

    def _fits(self, site: Site, *, text: str) -> bool:
        """Tell whether a site's repair fits into what the window leaves."""
        seen = self._view.observations
        needed = self._room.count(text) + 2 * self._room.count(site.edit.text)
        needed += _TURN_OVERHEAD_TOKENS
        needed += sum(map(self._measure_fact, site.facts))
        return not seen or seen[-1].remaining_tokens >= needed

    def _make_room(self, site: Site, *, submits: bool) -> Script:
        if self._options.late:
            return
        seen, whole_file = self._view.observations, self._way_to_find(site) == "file"
        fits = self._fits(site, text="\n".join(site.lines) if whole_file else site.text)
        if fits and not (self._options.eager and seen):
            return
        if self._options.rewrite == "evict":
            used_up = [o for o in seen if o.num_tokens > _SMALL_RESULT_TOKENS]
            evict = evict_call(used_up)
            if self._room.frees_enough(self._view, used_up) and (
                fits or whole_file or self._left_after(evict, used_up, site, submits=submits) >= 0
            ):
                self._pending = [evict]  # a turn of its own would cost a prompt
                return
            if fits:
                return
        yield from self._compact()

    def _compact(self, found: Site | None = None) -> Script:
        """Compact, with a pointer to the site that was found and not yet seen, if there is one."""
        if not self._can_compact:
            return
        summary = "fixed " + (", ".join(each.function for each in self._done) or "nothing yet")
        if found and self._options.late:
            summary += f", next {found.edit.path}:{found.start}-{found.end}"
            self._planned.append(found)
        yield from self._turn(call("compact", summary=summary))

    def _close(self, site: Site) -> list[ToolCall]:
        """Return a compaction in the turn of an edit, where one behind its result has no room."""
        if self._options.late or not self._can_compact or not self._view.observations:
            return []
        done = ", ".join(each.function for each in (*self._done, site))
        compact = call("compact", summary=f"fixed {done}")
        shown = number_lines(site.lines[site.edit.start - 2 : site.edit.start + 1], site.edit.start)
        takes = self._room.measure_turn([edit_call(site.edit)], [f"edited\n{shown}"])
        takes += self._room.measure_turn([compact], [])
        return [compact] if self._view.observations[-1].remaining_tokens < takes else []

    def _left_after(
        self, evict: ToolCall, used_up: list[Observation], site: Site, *, submits: bool
    ) -> int:
        """Return the tokens left once results are evicted and a site is found, read and edited."""
        site_lines = site.lines[site.start - 1 : site.end]
        find, *_ = list_finding_calls(site, self._way_to_find(site))
        found = {
            "outline": site.outline,
            "search": f"{site.edit.path}:{site.start}: {site_lines[0]}",
        }
        turns = [
            ([evict, find], ["evicted", found[find.name]]),
            ([read_call(site)], [number_lines(site_lines, site.start)]),
        ]
        if not submits:
            shown = number_lines(site_lines[-3:], site.edit.start)
            turns.append(([edit_call(site.edit)], [f"edited\n{shown}"]))
        left = self._view.observations[-1].remaining_tokens + self._room.count_freed(used_up)
        left -= sum(map(self._measure_fact, site.facts)) + self._count_moving()
        return left - sum(self._room.measure_turn(calls, results) for calls, results in turns)

    def _measure_fact(self, fact: Span) -> int:
        """Return the tokens of the turn that reads a fact."""
        lines = source_lines(self._files[fact.path])[fact.start - 1 : fact.end]
        read = self._read(fact.path, fact.start, fact.end)
        return self._room.measure_turn([read], [number_lines(lines, fact.start)])

    def _count_moving(self) -> int:
        """Return the tokens of the plan's notes, which a first rewrite repeats behind the task."""
        if self._view.num_rewrites or not self._options.plan:
            return 0
        places = (f"{each.edit.path}:{each.start}-{each.end}" for each in self._planned)
        return sum(self._room.count(f"note {place} read\n") for place in places)
