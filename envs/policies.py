"""Scripted policies behind the same async interface as a model: gold, careful, wasteful, noop.

A script is a generator that yields the calls of one turn and receives the next view. `gold` edits
at once and is the yardstick; `careful` and `wasteful` have the lines in view before they edit them,
in one of the habits of `envs/habits/options.py`, and know the fix as a teacher would: what they
cannot get to see they leave alone. `noop` submits untouched. Scripts report log-probs of 0: nothing
was sampled.
"""

from collections.abc import Generator, Sequence
from typing import Literal

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
from envs.sites import Site, find_sites
from envs.workspace import number_lines

_TURN_OVERHEAD_TOKENS = 110  # calls, headers and turn markers of one site's repair
_FACT_TOKENS = 60  # to read some lines elsewhere
_SMALL_RESULT_TOKENS = 12  # below it the stub is no shorter than the result
_MAX_LOOKS = 3  # for one site
_HEADER = "[o9 99/99]\n"  # of a result where room is short
_FREED_SHARE = 0.10  # of the window: what an evict must free at least (envs/environment.py)

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
    return ScriptRunner(options or ScriptOptions(), chat, reserve_tokens=max_new_tokens).repair(
        find_sites(hidden.gold_edits, files, needed=hidden.gold_spans)
    )


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


class ScriptRunner:
    """Repairs one site after another; drops what is used up when room gets short.

    Args:
        options: How it works.
        chat: Encodes calls and results, to judge what still fits.
        reserve_tokens: Of the window, for what is sampled.
    """

    def __init__(
        self, options: ScriptOptions, chat: ChatFormat, *, reserve_tokens: int = 0
    ) -> None:
        self._options, self._chat, self._reserve_tokens = options, chat, reserve_tokens
        self._view: View  # the last one
        self._done: list[Site] = []
        self._pending: list[ToolCall] = []  # an evict that goes with the next turn
        self._too_long: set[str] = set()  # files that are not read whole again
        self._planned: list[Site] = []  # noted with their lines
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
            yield from self._look(site)
            yield from self._learn(site)
            if not (self._sees(site) and all(map(self._shows, site.facts))):
                break
            yield from self._make_wrong(_edit_call(site.edit), site)
            if submits:
                yield from self._turn(_edit_call(site.edit), call("submit"))
                return
            yield from self._turn(_edit_call(site.edit))
            if options.reread:
                yield from self._turn(_read_call(site))
            if options.note and not is_last:
                lines = f"{site.edit.start}-{site.edit.end}"
                yield from self._turn(call("note", file=site.edit.path, facts="fixed", lines=lines))
            self._done.append(site)
        if options.test_after:
            yield from self._turn(call("run_tests", selector=""))
        yield [call("submit")]

    def _turn(self, *calls: ToolCall) -> Script:
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
        found = [_finding_calls(site, self._options.find)[0] for site in sites]
        yield from self._turn(*(each for n, each in enumerate(found) if each not in found[:n]))
        notes = (
            (site.edit.path, f"read {site.function}".strip(), f"{site.start}-{site.end}")
            for site in sites
        )
        yield from self._turn(
            *(call("note", file=path, facts=facts, lines=lines) for path, facts, lines in notes)
        )
        self._planned = list(sites)

    def _learn(self, site: Site) -> Script:
        """Read what the repair needs from elsewhere, unless it is in view."""
        for fact in site.facts:
            if not self._shows(fact):
                lines = {"start": fact.start, "end": fact.end}
                yield from self._turn(call("read_lines", path=fact.path, **lines))

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
        end = site.end
        if find == "file" and not self._sees(site):  # the cap cut it
            end, shown = len(site.lines), self._last_shown(site)
            if end - shown > shown and site.function:  # more than one further result
                end = site.end
                self._too_long.add(site.edit.path)
                if rewrites:  # what was cut before the site has served its purpose
                    self._pending = [_evict_call(self._view.observations[-1:])]
                yield from self._find(site, "search")
        while not self._sees(site):
            last = self._last_shown(site)
            if not 0 < last < end:
                return
            yield from self._turn(call("read_lines", path=site.edit.path, start=last + 1, end=end))

    def _find(self, site: Site, find: Find) -> Script:
        steps = _finding_calls(site, find)
        if site in self._planned and find != "file":  # a note, or the summary, says where it is
            steps = [_read_call(site)]
        for step in steps:
            yield from self._make_wrong(step, site)
            yield from self._turn(step)

    def _way_to_find(self, site: Site) -> Find:
        return "search" if site.edit.path in self._too_long else self._options.find

    def _sees(self, site: Site) -> bool:
        """Tell whether all lines of the edit are in view."""
        lines = site.to_see
        return not lines or self._shows(Span(path=site.edit.path, start=lines[0], end=lines[-1]))

    def _shows(self, wanted: Span) -> bool:
        shown = [span for seen in self._view.observations for span in seen.spans]
        here = [(span.start, span.end) for span in shown if span.path == wanted.path]
        lines = range(wanted.start, wanted.end + 1)
        return all(any(a <= line <= b for a, b in here) for line in lines)

    def _last_shown(self, site: Site) -> int:
        """Return the last line of the site's file that the last result shows; 0 if none."""
        spans = self._view.observations[-1].spans if self._view.observations else ()
        return max((span.end for span in spans if span.path == site.edit.path), default=0)

    def _fits(self, site: Site, *, text: str) -> bool:
        """Tell whether a site's repair fits into what the window leaves."""
        seen = self._view.observations
        needed = self._count(text) + 2 * self._count(site.edit.text) + _TURN_OVERHEAD_TOKENS
        needed += _FACT_TOKENS * len(site.facts)
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
            evict = _evict_call(used_up)
            if self._frees_enough(used_up) and (
                fits or whole_file or self._left_after(evict, used_up, site, submits=submits) >= 0
            ):
                self._pending = [evict]  # a turn of its own would cost a prompt
                return
            if fits:
                return
        yield from self._compact()

    def _compact(self, found: Site | None = None) -> Script:
        """Compact, with a pointer to the site that was found and not yet seen, if there is one."""
        if self._options.rewrite == "none":
            return
        summary = "fixed " + (", ".join(each.function for each in self._done) or "nothing yet")
        if found and self._options.late:
            summary += f", next {found.edit.path}:{found.start}-{found.end}"
            self._planned.append(found)
        yield from self._turn(call("compact", summary=summary))

    def _frees_enough(self, used_up: Sequence[Observation]) -> bool:
        """Tell whether the environment would carry out an evict of these results."""
        if not used_up:
            return False
        window = self._view.observations[-1].remaining_tokens + len(self._view.prompt_ids)
        window += self._reserve_tokens
        return self._count_freed(used_up) >= int(_FREED_SHARE * window)

    def _count_freed(self, used_up: Sequence[Observation]) -> int:
        where = (" ".join(f"{s.path}:{s.start}-{s.end}" for s in o.spans[:2]) for o in used_up)
        stubs = (f"[{o.id} out {place}]" for o, place in zip(used_up, where, strict=True))
        return sum(self._count(o.text) for o in used_up) - sum(map(self._count, stubs))

    def _left_after(
        self, evict: ToolCall, used_up: list[Observation], site: Site, *, submits: bool
    ) -> int:
        """Return the tokens left once results are evicted and a site is found, read and edited."""
        site_lines = site.lines[site.start - 1 : site.end]
        find, *_ = _finding_calls(site, self._way_to_find(site))
        found = {
            "outline": site.outline,
            "search": f"{site.edit.path}:{site.start}: {site_lines[0]}",
        }
        turns = [
            ([evict, find], ["evicted", found[find.name]]),
            ([_read_call(site)], [number_lines(site_lines, site.start)]),
        ]
        if not submits:
            shown = number_lines(site_lines[-3:], site.edit.start)
            turns.append(([_edit_call(site.edit)], [f"edited\n{shown}"]))
        left = self._view.observations[-1].remaining_tokens + self._count_freed(used_up)
        for calls, results in turns:
            most = self._chat.max_calls or len(calls)
            for part in (calls[i : i + most] for i in range(0, len(calls), most)):
                parts = self._chat.surround_results([each.name for each in part])
                left -= len(self._chat.call_ids(part)) + parts.num_tokens
            left -= sum(self._count(_HEADER + result) for result in results)
        return left

    def _count(self, text: str) -> int:
        return len(self._chat.encode(text))


def _finding_calls(site: Site, find: Find) -> list[ToolCall]:
    if find == "file":
        return [call("read_file", path=site.edit.path)]
    if find == "outline":
        return [call("outline", path=site.edit.path), _read_call(site)]
    return [call("search", pattern=site.search), _read_call(site)]


def _evict_call(observations: Sequence[Observation]) -> ToolCall:
    return call("evict", observation_ids=[each.id for each in observations])


def _edit_call(edit: Edit) -> ToolCall:
    return call("edit_lines", path=edit.path, start=edit.start, end=edit.end, text=edit.text)


def _read_call(site: Site) -> ToolCall:
    return call("read_lines", path=site.edit.path, start=site.start, end=site.end)
