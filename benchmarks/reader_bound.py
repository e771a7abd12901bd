"""The least that any reader without a rewrite can hold, by integer programming over all reads.

    bound = Bound(game, limit)         # limit: tokens for which the best plan known has room
    bound.build().solve().tokens       # no plan takes less

Any number of reads (`every_read.py`), in any order, in any turns; each edit early, or in the last
turn with `submit`. What is minimised is a sum of tokens that no plan undercuts:

    cut results     in the last turn but one results may be cut: an edit there wants the least room
                    of a result, a read no more than the lines up to the last one that it shows
    headers         `[o1 45/310]`: the fewest digits that so many results can have
    turns           as many as the tokens of all calls fill, were calls cut to fill them; an early
                    edit stands behind a read

So where the sum is that of a known plan, that plan is the best of all; where it is less, the
difference is what is not known. Needs scipy, whose HiGHS solves the programs.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_matrix

from benchmarks.every_read import GAIN, SUBMIT, Column, Search, Universe, list_searches
from envs.context.fitting import MIN_OBSERVATION_TOKENS
from envs.readers.needs import Line
from envs.readers.play import Game
from envs.records import ToolCall


@dataclass(frozen=True)
class Nearest:
    """The plan whose tokens, counted too low, are the fewest.

    Attributes:
        tokens: So many; prompt and output reserve are left out.
        reads: Its reads.
        last: Which edits it makes in the last turn, by their place in `Game.needs`.
    """

    tokens: int
    reads: tuple[ToolCall, ...]
    last: tuple[int, ...]


class Program:
    """The integer program of a task: which reads, which edits early, how many turns.

    Variables: a read each; for each edit whether it is made in the last turn, in the one before,
    where its answer may be cut, or earlier; turns before the last; how many results say that less
    than 10, 100, ... tokens are left, and so have fewer digits.

    Args:
        universe: The task.
        searches: Those that count.
        limit: Most tokens of a plan that matters.
    """

    def __init__(self, universe: Universe, searches: Sequence[Search], *, limit: int) -> None:
        self.universe, self.limit = universe, limit
        self.costs: list[float] = []
        self.entries: list[dict[int, float]] = []  # of each variable: row -> factor
        self.upper: list[float] = []
        self.low: list[float] = [1.0] * len(universe.needed)  # rows: all at least
        self.place = {line: row for row, line in enumerate(universe.needed)}
        self._sizes: dict[tuple[int, int], int] = {}
        self._add_frame()
        self.reads = {self._add_read(column): column.call for column in universe.ranges}
        self.reads |= {self._add_search(each): universe.call_of(each) for each in searches}

    def _row(self, low: float) -> int:
        self.low.append(low)
        return len(self.low) - 1

    def _variable(self, cost: float, entries: dict[int, float], upper: float = 1.0) -> int:
        self.costs.append(cost)
        self.entries.append(entries)
        self.upper.append(upper)
        return len(self.costs) - 1

    def _add_frame(self) -> None:
        universe, tokens = self.universe, self.universe.tokens
        room = universe.game.limits.max_new_tokens - tokens.end
        self.turn_row, self.late_row = self._row(0), self._row(-9)
        self.calls_row, self.small_row, self.left_row = self._row(0), self._row(0), self._row(0)
        last, cuts = self._row(tokens.call(SUBMIT) - room), [self._row(-room) for _ in range(2)]
        is_any, one = self._row(1), self._row(1)
        turn: dict[int, float] = {self.turn_row: room, one: 1}
        turn[self.calls_row] = universe.game.chat.max_calls or room
        self.levels = [10**power for power in range(1, 6) if 10**power < self.limit]
        self.tails = [self._row(1 - level) for level in self.levels]
        self.totals = [self._row(0) for _ in self.levels]
        firsts = [self._variable(-1, {total: -1}) for total in self.totals]
        most = len(cuts) * (room // min(universe.calls))  # answers that are cut
        behind = [min(MIN_OBSERVATION_TOKENS, (level - 1) / most) for level in self.levels]
        self.last: list[int] = []
        for own, answer in zip(universe.calls, universe.answers, strict=True):
            is_made, early, less = self._row(1), self._row(0), self._row(0)
            turn[early] = 1
            made = {self.turn_row: -own, self.calls_row: -1, is_made: 1, early: -2}
            self.last.append(self._variable(0, {last: -own, is_made: 1}))
            tail = dict(zip(self.tails, (-each for each in behind), strict=True))
            no_first = self._row(-1)
            for first, level in zip(firsts, self.levels, strict=True):
                self.entries[first] |= {no_first: -1} if level <= MIN_OBSERVATION_TOKENS else {}
            cut = {**made, is_any: 1, less: 1, no_first: -1, **tail}
            wanted = own + tokens.between + MIN_OBSERVATION_TOKENS
            self._variable(wanted, {**cut, cuts[0]: -own})
            again = min(0, universe.unused - wanted - tokens.turn)  # in a turn behind such a one
            self._variable(wanted, {**cut, cuts[1]: -own, self.left_row: again})
            back = dict(zip(self.tails, behind, strict=True))
            self._variable(-GAIN, {less: -1, self.small_row: -1, no_first: 1, **back})
            self._add_result(own, own + answer, {**made})
        self.turns = self._variable(tokens.turn, turn, upper=np.inf)
        self._variable(universe.late, {is_any: 1})
        self._variable(1, {self.late_row: 1}, upper=np.inf)  # a tenth result, and each after it

    def _add_result(self, own: int, tokens: int, entries: dict[int, float]) -> int:
        """Add a call with its result; of digits it has as many as the limit, some may go."""
        size = tokens - own - self.universe.tokens.between
        entries[self.late_row] = -1
        for level, (tail, total) in enumerate(zip(self.tails, self.totals, strict=True)):
            if (level, size) not in self._sizes:
                self._sizes[level, size] = row = self._row(0)
                self._variable(-1, {tail: -size, total: -1, row: -1}, upper=np.inf)
            entries |= {self._sizes[level, size]: 1, total: 1}
        return self._variable(tokens + len(self.levels), entries)

    def list_entries(self, shows: Iterable[Line], own: int, size: int) -> dict[int, float]:
        """Return the rows in which a read stands, but for digits."""
        entries: dict[int, float] = {self.place[line]: 1 for line in shows}
        if size <= self.universe.small:
            entries[self.small_row] = len(self.universe.edits)
        if size < MIN_OBSERVATION_TOKENS:
            entries[self.left_row] = MIN_OBSERVATION_TOKENS - size
        return {**entries, self.turn_row: -own, self.calls_row: -1}

    def _add_read(self, read: Column) -> int:
        size = read.tokens - read.call_tokens - self.universe.tokens.between
        entries = self.list_entries(read.shows, read.call_tokens, size)
        return self._add_result(read.call_tokens, read.tokens, entries)

    def _add_search(self, search: Search) -> int:
        universe, own = self.universe, self.universe.count_call(search)
        size = universe.count_search(search, own) - own - universe.tokens.between
        entries = self.list_entries(search.hits, own, size)
        most = universe.game.limits.observation_tokens
        entries[room := self._row(0)] = most - search.rows
        for line in search.edited:
            entries[shown := self._row(0)] = 1
            tokens = universe.found(line)
            self._variable(tokens, {shown: -1, self.place[line]: 1, room: -tokens})
        return self._add_result(own, universe.count_search(search, own), entries)

    def matrix(self) -> csr_matrix:
        """Return the rows as a sparse matrix."""
        rows = [row for entries in self.entries for row in entries]
        places = [at for at, entries in enumerate(self.entries) for _ in entries]
        values = [value for entries in self.entries for value in entries.values()]
        return csr_matrix((values, (rows, places)), shape=(len(self.low), len(self.costs)))

    def price(self) -> tuple[float, np.ndarray]:
        """Return the least sum where parts of reads are allowed, and what each row is worth."""
        bounds = [(0, upper) for upper in self.upper]
        found = linprog(self.costs, A_ub=-self.matrix(), b_ub=-np.array(self.low), bounds=bounds)
        assert found.status == 0, found.message
        return float(found.fun), -found.ineqlin.marginals

    def solve(self) -> Nearest:
        """Return the plan of the least sum."""
        least, values = self._solve(self.costs)
        reads = tuple(read for place, read in self.reads.items() if values[place])
        last = tuple(at for at, place in enumerate(self.last) if values[place])
        return Nearest(math.ceil(least - 1e-6), reads, last)

    def count_reads(self) -> int:
        """Return the fewest reads that show all that is needed."""
        costs = [float(place in self.reads) for place in range(len(self.costs))]
        return round(self._solve(costs)[0])

    def _solve(self, costs: Sequence[float]) -> tuple[float, np.ndarray]:
        found = milp(
            costs,
            integrality=np.ones(len(costs)),
            bounds=Bounds(0, np.array(self.upper)),
            constraints=LinearConstraint(self.matrix(), lb=np.array(self.low), ub=np.inf),
            options={"mip_rel_gap": 0.0},
        )
        assert found.status == 0, found.message
        return float(found.fun), np.round(found.x)


@dataclass
class Bound:
    """The proof of one task.

    Attributes:
        game: The task.
        limit: Tokens of calls, results and turns for which there is room in the window of the best
            plan that is known.
    """

    game: Game
    limit: int

    def __post_init__(self) -> None:
        self.universe = Universe(self.game)
        self.all = list(list_searches(self.universe))
        self.chosen: list[Search] = []

    def build(self) -> Program:
        """Return the program with all searches that a plan within the limit may hold.

        A read whose tokens exceed what its lines are worth by more than the rest of the limit is in
        no such plan (reduced costs of the linear program).
        """
        while True:
            program = Program(self.universe, self.chosen, limit=self.limit)
            least, worth = program.price()
            kept = {id(search) for search in self.chosen}
            added = [
                search
                for search in self.all
                if id(search) not in kept
                and all(
                    self._reduce(search, program, worth, own) <= self.limit - least
                    for own in self._guess(search)
                )
            ]
            if not added:
                return program
            self.chosen += added

    def _guess(self, search: Search) -> Iterator[int]:
        """Yield the least tokens of its call, then the true ones, which take time."""
        yield self.universe.least_call
        yield self.universe.count_call(search)

    def _reduce(self, search: Search, program: Program, worth: np.ndarray, own: int) -> float:
        universe = self.universe
        cost = float(universe.count_search(search, own))
        size = universe.count_search(search, own) - own - universe.tokens.between
        entries = program.list_entries(search.hits, own, size)
        cost -= sum(factor * float(worth[row]) for row, factor in entries.items())
        rows = ((line, program.place[line]) for line in search.edited)
        free = (max(0.0, float(worth[row]) - universe.found(line)) for line, row in rows)
        return cost - sum(free)
