"""What the turns of a session are billed, with and without a cache of prefixes.

    turns = list_turns(30, first=3000, result=1200, sampled=300)
    read_prices("3,0.3,15").charge(turns, caches=True)

Each turn sends all that went before: so the tokens of a session grow with the square of its turns,
whatever they cost. Prices are the user's; none are built in.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from envs.errors import UserError
from envs.records import Episode


@dataclass(frozen=True)
class Turn:
    """Tokens of one turn: a prompt, of which a beginning was there before, and what was sampled."""

    prompt: int
    cached: int
    sampled: int

    @property
    def new(self) -> int:
        """Tokens of the prompt that were not there before."""
        return self.prompt - self.cached


@dataclass(frozen=True)
class Prices:
    """Money for a million tokens: of prompts, of what a cache gave, sampled, put into a cache."""

    new: float
    cached: float
    sampled: float
    written: float

    def charge(self, turns: Iterable[Turn], *, caches: bool) -> float:
        """Return the money for some turns; without a cache all of a prompt is new."""
        money = 0.0
        for turn in turns:
            if caches:
                money += self.written * turn.new + self.cached * turn.cached
            else:
                money += self.new * turn.prompt
            money += self.sampled * turn.sampled
        return money / 1e6


def read_prices(text: str) -> Prices:
    """Return the prices in `NEW,CACHED,SAMPLED` or `NEW,CACHED,SAMPLED,WRITTEN`.

    Raises:
        UserError: They are no three or four numbers from 0 on.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (3, 4) or not all(0 <= value < math.inf for value in values):
        raise UserError(
            "--prices are three or four numbers",
            got=text,
            remedy="write NEW,CACHED,SAMPLED[,WRITTEN] for a million tokens, such as 3,0.3,15,3.75",
        )
    new, cached, sampled, *written = values
    return Prices(new, cached, sampled, *(written or [new]))


def list_turns(num_turns: int, *, first: int, result: int, sampled: int) -> list[Turn]:
    """Return the turns of a session that keeps all it has seen.

    Args:
        num_turns: How many.
        first: Tokens of the first prompt: system, tools, task.
        result: That a tool's answer adds after each turn.
        sampled: That each turn samples.
    """
    turns = [Turn(first, 0, sampled)]
    while len(turns) < num_turns:
        before = turns[-1].prompt + sampled
        turns.append(Turn(before + result, before, sampled))
    return turns


def list_played(episode: Episode) -> list[Turn]:
    """Return the turns of an episode that was played."""
    return [
        Turn(turn.prompt_end, turn.num_cached, turn.sample_end - turn.prompt_end)
        for turn in episode.turns
    ]
