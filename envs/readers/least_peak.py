"""The least peak of a task: the least window in which some scripted reader solves it, unaided.

    peak = measure_least_peak(task, hidden, files, chat=chat, system=system, limits=limits)
    peak.window                      # tokens, output reserve included

The family of readers: ranges of lines, whole files and searches, the cheapest set of these that
shows what the repair needs, calls together in few turns or one to a turn; and the demonstrators'
thrifty reader, which searches for a function and reads it whole. Each is played in the real
environment, in smaller and smaller windows, until it no longer solves; the best one counts. None
of them evicts, compacts or notes, so a smaller window needs a rewrite.

`floor` is the least window in which a plain script solves that does rewrite: a few edits at a time,
it searches for the functions, reads them, reads the facts, edits, and compacts. It is tried with
all numbers of compactions that turns allow: the more, the less it holds. What it does a model can
be asked to do, so no window is made smaller than that.

Nothing is run or graded: a task is solved when what gold says was edited, after it had been seen.
benchmarks/least_peak.py compares with an exhaustive search.
Tests: tests/envs/readers/test_least_peak.py.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice, product

from envs.environment import Limits
from envs.readers.needs import Line
from envs.readers.plans import Plan, choose_last, list_rewriting, plan_together
from envs.readers.play import Game, Played
from envs.readers.reads import list_covers, list_reads
from envs.records import HiddenTask, RepairTask
from envs.rendering import ChatFormat

FAMILY = 2  # goes up when readers or scripts change: what was measured before counts no more
_MOST_COVERS = 8  # sets of reads, of which the cheapest turns out to be cheapest
_WAYS: tuple[tuple[str, int | None], ...] = (("together", None), ("singly", 1))
_WIDE = 1_000_000  # tokens: in so large a window nothing is cut but by the cap

Play = Callable[[int], Played]
"""Plays one reader in a window of so many tokens."""


@dataclass(frozen=True)
class LeastPeak:
    """What a task needs of a window.

    Attributes:
        window: The least in which some reader solves without a rewrite; None if none ever does.
        room: Of it, what system prompt and task leave.
        floor: The least in which the plain rewriting script solves; None if it never does.
        reader: Which reader was best; '' if none solves.
    """

    window: int | None
    room: int | None
    floor: int | None
    reader: str


def measure_least_peak(
    task: RepairTask,
    hidden: HiddenTask,
    files: Mapping[str, str],
    *,
    chat: ChatFormat,
    system: str,
    limits: Limits,
) -> LeastPeak:
    """Play the family of readers, and the rewriting script, in windows of all sizes.

    Args:
        task: The public half of a task.
        hidden: Its private half.
        files: Its broken workspace.
        chat: Encodes and counts for the policy.
        system: The system prompt.
        limits: Those of an episode; `window_tokens` says nothing.
    """
    game = Game(task, hidden, files, chat, system, limits)
    window, reader = None, ""
    for name, play in list_family(game):
        found = find_least_window(play, reserve=limits.max_new_tokens, below=window)
        if found is not None:
            window, reader = found, name
    room = None if window is None else window - len(game.open(window).view().prompt_ids)
    floor = None
    for play in list_scripts(game):
        floor = find_least_window(play, reserve=limits.max_new_tokens, below=floor) or floor
    return LeastPeak(window, room, floor, reader)


def list_family(game: Game) -> Iterable[tuple[str, Play]]:
    """Yield the readers that rewrite nothing, with their names."""
    needed = frozenset[Line]().union(*(need.to_see for need in game.needs))
    reads = list_reads(needed, game.sources)
    ranges = [read for read in reads if read.call.name == "read_lines"]
    lasts = choose_last(game.needs, game.sources, game.fits)
    plans: list[Plan] = []
    for kind, covers in (
        ("cheapest", islice(list_covers(needed, reads), _MOST_COVERS)),
        ("lines", islice(list_covers(needed, ranges), 1)),
    ):
        for cover, last, (way, most) in product(covers, lasts, _WAYS):
            plan = plan_together(game.needs, cover, last=last, fits=game.fits, most=most)
            if plan and plan not in plans:
                plans.append(plan)
                yield f"{kind} {way}", partial(game.play, plan)
    if not any(need.facts for need in game.needs):
        yield "thrifty", game.play_thrifty  # which looks for no facts


def list_scripts(game: Game) -> Iterable[Play]:
    """Yield the plain scripts that rewrite."""
    plans = list_rewriting(
        game.needs,
        game.sources,
        fits=game.fits,
        max_turns=game.limits.max_turns,
        max_rewrites=game.limits.max_rewrites,
    )
    return (partial(game.play, plan) for plan in plans)


def find_least_window(play: Play, *, reserve: int, below: int | None = None) -> int | None:
    """Return the least window in which a reader solves; None if none, or none less than `below`.

    What is cut in a small window may suffice, and the peak alone may not: a turn needs some room
    for each result. So windows are tried from the peak, in steps that double, then halve.
    """
    enough, fails, size, step = None, 0, _WIDE if below is None else below - 1, 1
    while size > fails:
        played = play(size)
        if not played.solved:
            fails = size
            break
        enough, size, step = size, min(size - step, played.peak + reserve), 2 * step
    if enough is None:
        return None
    while fails + 1 < enough:
        size = (fails + enough) // 2
        enough, fails = (size, fails) if play(size).solved else (enough, size)
    return enough
