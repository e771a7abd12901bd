"""Reads show what they say, and the cheapest set of them is found."""

import itertools

from envs.readers.needs import Line, list_lines
from envs.readers.play import Game
from envs.readers.reads import list_covers, list_reads
from envs.tools import Toolbox, no_sandbox
from envs.workspace import Workspace
from tests.envs.readers.long_task import FILES, new_game


def needed_of(game: Game) -> frozenset[Line]:
    return frozenset[Line]().union(*(need.to_see for need in game.needs))


def test_reads_show_what_they_say() -> None:
    game = new_game()
    needed = needed_of(game)
    reads = list_reads(needed, game.sources)
    tools = Toolbox(Workspace.of(FILES, ()), run_visible=no_sandbox)
    assert {read.call.name for read in reads} >= {"read_lines", "search"}
    assert any(len({path for path, _ in read.shows}) == 4 for read in reads), "one search for all"
    for read in reads:
        assert list_lines(tools.run(read.call).spans) & needed == read.shows


def test_tokens_of_a_call_are_those_of_the_template() -> None:
    game = new_game()
    for read in list_reads(needed_of(game), game.sources):
        assert game.sources.count_call(read.call) == len(game.chat.call_ids([read.call]))


def test_the_first_cover_is_the_cheapest_of_all() -> None:
    game = new_game()
    needed = frozenset(sorted(needed_of(game))[:5])
    reads = list_reads(needed, game.sources)
    first = next(list_covers(needed, reads))
    cheapest = min(
        sum(read.tokens for read in some)
        for size in (1, 2, 3)
        for some in itertools.combinations(reads, size)
        if frozenset[Line]().union(*(read.shows for read in some)) >= needed
    )
    assert frozenset[Line]().union(*(read.shows for read in first)) >= needed
    assert sum(read.tokens for read in first) <= cheapest


def test_a_line_that_no_result_holds_cannot_be_covered() -> None:
    game = new_game()
    game.sources = type(game.sources)(FILES, game.chat, 4)
    assert list(list_covers(needed_of(game), list_reads(needed_of(game), game.sources))) == []
