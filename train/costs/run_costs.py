"""What a run took and cost: seconds from its files, money at a price for an hour.

    measure_run(Path("runs/demo"), hour_price=2.5)

Of GRPO each step wrote how long it rolled out and learned (`metrics.jsonl`), of an evaluation each
policy how long that took, with loading it (`seconds.json`). What was interrupted counts as it was
done in the end.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import UserError
from envs.records import Episode
from rewards.outcome import is_solved
from train.costs.session import Prices, Turn, list_played
from train.stages.run_dir import StageDir, stage_in

SECONDS = "seconds.json"  # of an evaluation, by policy


@dataclass(frozen=True)
class PartCost:
    """What one part of a run took.

    Attributes:
        name: Of the part: `grpo`, or `evaluate POLICY`.
        num_episodes: That were played.
        num_solved: Of these.
        seconds: Of the machine; None where the files do not say it.
        billed_tokens: Prompts and what was sampled, over all episodes, failed ones included.
        cached_tokens: Of these, there since the turn before.
        sampled_tokens: Of these, sampled.
        money: Of the machine at its hourly price; None without a price, or without seconds.
        tokens_money: At prices of tokens, with a cache; None without.
    """

    name: str
    num_episodes: int
    num_solved: int
    seconds: float | None
    billed_tokens: int
    cached_tokens: int
    sampled_tokens: int
    money: float | None
    tokens_money: float | None

    @property
    def episodes_per_hour(self) -> float | None:
        """Episodes in an hour, learning included where there is any."""
        return 3600 * self.num_episodes / self.seconds if self.seconds else None

    @property
    def money_per_solved(self) -> float | None:
        """Money of the machine for one that was solved, failed ones included."""
        return None if self.money is None or not self.num_solved else self.money / self.num_solved

    @property
    def tokens_money_per_solved(self) -> float | None:
        """The same of tokens."""
        paid = self.tokens_money
        return None if paid is None or not self.num_solved else paid / self.num_solved


def measure_run(
    run: Path, *, hour_price: float | None = None, prices: Prices | None = None
) -> list[PartCost]:
    """Return the parts of a run of which episodes are there.

    Args:
        run: Its folder.
        hour_price: Of all its machines together.
        prices: Of tokens.

    Raises:
        UserError: There is no such run, it holds no episodes of training or evaluation, or none
            that can be read.
    """
    parts = [
        _add_up(name, episodes, seconds, hour_price, prices)
        for name, episodes, seconds in _list_parts(run)
    ]
    if not parts:
        remedy = "name a run that has trained or was evaluated, runs/NAME"
        raise UserError("no episodes are there", got=str(run), remedy=remedy)
    return parts


def _add_up(
    name: str,
    episodes: Iterable[Episode],
    seconds: float | None,
    hour_price: float | None,
    prices: Prices | None,
) -> PartCost:
    turns: list[Turn] = []
    num_episodes = num_solved = 0
    for episode in episodes:
        num_episodes += 1
        num_solved += is_solved(episode)
        turns += list_played(episode)
    has_price = hour_price is not None and seconds is not None
    return PartCost(
        name=name,
        num_episodes=num_episodes,
        num_solved=num_solved,
        seconds=seconds,
        billed_tokens=sum(turn.prompt + turn.sampled for turn in turns),
        cached_tokens=sum(turn.cached for turn in turns),
        sampled_tokens=sum(turn.sampled for turn in turns),
        money=seconds / 3600 * hour_price if has_price else None,  # type: ignore[operator]
        tokens_money=prices.charge(turns, caches=True) if prices else None,
    )


def _list_parts(run: Path) -> Iterator[tuple[str, Iterable[Episode], float | None]]:
    """Yield each part: its name, its episodes, the seconds that it took if that is known."""
    grpo, evaluate = stage_in(run, "grpo"), stage_in(run, "evaluate")
    if rows := [row for row in grpo.read_metrics() if "num_episodes" in row]:
        parts = [row.get(name) for row in rows for name in ("seconds/rollout", "seconds/learn")]
        known = [part for part in parts if part is not None]
        yield "grpo", _read_steps(grpo, rows), sum(known) if len(known) == len(parts) else None
    taken = evaluate.read_json(SECONDS)
    for name in evaluate.list_episodes():
        yield f"evaluate {name}", evaluate.stream_episodes(name), taken.get(name)


def _read_steps(stage: StageDir, rows: Iterable[Mapping[str, Any]]) -> Iterator[Episode]:
    for row in rows:
        yield from stage.stream_episodes(row["step"])
