"""No plan takes less than the bound, which comes within a few tokens of the best one."""

import random

import pytest

from envs.readers.least_peak import find_least_window, measure_least_peak
from envs.readers.needs import Line
from envs.readers.plans import plan_together
from envs.readers.play import Game
from envs.readers.reads import Read, list_reads
from envs.records import Edit, Observed, Sample
from tests.envs.readers.long_task import HIDDEN_LONG, LIMITS, new_game

pytest.importorskip("scipy")

from benchmarks.every_read import NotCovered, Universe
from benchmarks.reader_bound import Bound


def needed_of(game: Game) -> frozenset[Line]:
    return frozenset[Line]().union(*(need.to_see for need in game.needs))


def room_in(game: Game, window: int) -> int:
    return window - game.limits.max_new_tokens - len(game.open(window).view().prompt_ids)


def test_the_best_reader_of_the_family_is_near_the_bound() -> None:
    game = new_game()
    found = measure_least_peak(
        game.task, game.hidden, game.files, chat=game.chat, system=game.system, limits=game.limits
    )
    assert found.window is not None
    limit = room_in(game, found.window)
    program = Bound(game, limit).build()
    nearest = program.solve()
    assert 0.95 * limit <= nearest.tokens <= limit
    assert len(nearest.reads) >= program.count_reads() > 1


def test_no_plan_however_it_reads_fits_below_the_bound() -> None:
    game, rng = new_game(), random.Random(0)
    needed, reads = needed_of(game), list_reads(needed_of(game), game.sources)
    limit = 2000
    least = Bound(game, limit).build().solve().tokens
    for _ in range(25):
        chosen: list[Read] = []
        while not needed <= frozenset[Line]().union(*(read.shows for read in chosen)):
            chosen.append(rng.choice(reads))
        shuffled = [Read(r.call, r.shows, r.tokens, rng.randrange(99)) for r in chosen]
        last = [rng.randrange(len(game.needs))]
        most = rng.choice([None, 1, 2])
        plan = plan_together(game.needs, shuffled, last=last, fits=game.fits, most=most)
        assert plan is not None
        window = find_least_window(
            lambda size, plan=plan: game.play(plan, size), reserve=LIMITS.max_new_tokens
        )
        assert window is not None and room_in(game, window) >= least


def test_a_call_with_its_result_takes_what_is_said() -> None:
    game = new_game()
    universe = Universe(game)
    for read in universe.ranges[::3]:
        if read.call.name != "read_lines":
            continue
        environment = game.open(9999)
        before = len(environment.view().prompt_ids)
        ids = game.chat.call_ids([read.call])
        sample = Sample(token_ids=ids, sampling_logps=(0.0,) * len(ids), finish="stop")
        calls = environment.begin(sample)
        environment.finish(game._run(environment, calls))
        event = environment.events[-1]
        assert isinstance(event, Observed)
        left = len(str(event.observations[0].remaining_tokens)) - 1
        after = len(environment.view().prompt_ids)
        assert after - before == read.tokens + universe.tokens.turn + left


def test_edits_that_move_lines_are_not_covered() -> None:
    game = new_game()
    longer = Edit(path="m0.py", start=5, end=5, text="    x = 1\n    return x")
    hidden = HIDDEN_LONG.model_copy(update={"gold_edits": (longer,), "gold_spans": ()})
    moved = Game(game.task, hidden, game.files, game.chat, game.system, game.limits)
    with pytest.raises(NotCovered):
        Universe(moved)
