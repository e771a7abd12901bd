"""`tightrope budget EPISODE`: what the tokens of its views are spent on.

    tightrope budget runs/demo/evaluate/episodes/grpo.jsonl.gz:3
    tightrope budget runs/demo/evaluate/episodes/grpo.jsonl.gz:3 --turn 5

An episode is a file that a stage wrote, and its place in there, from 1; without one, the first. A
line for each turn, or all kinds of one turn; `--json` prints records of `envs/context/budget.py`.
"""

import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from envs.context.budget import Budget, measure_budget
from envs.errors import UserError
from envs.files import stream_records
from envs.records import Episode
from train.config.load import Flag, parse_flags

_EXAMPLE = "tightrope budget runs/demo/evaluate/episodes/grpo.jsonl.gz:3 --turn 5"
_KINDS = ("template", "system", "tools", "task", "notes", "summaries", "unsplit", "assistant")


def main(argv: Sequence[str]) -> int:
    """Print the budget; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope budget",
        description="Prints what the tokens of an episode's views are spent on.",
        example=_EXAMPLE,
        flags=[
            Flag("episode", "FILE:NUMBER, a file of episodes and a place in it, from 1"),
            Flag("--turn", "all kinds of this turn's view, from 1", kind=int),
            Flag("--json", "print records, one a line", kind=bool),
        ],
    )
    episode, turn = read_episode(flags["episode"]), flags["turn"]
    turns = range(1, len(episode.turns) + 1) if turn is None else [turn]
    budgets = [measure_budget(episode, turn=each) for each in turns]
    if flags["json"]:
        print("\n".join(budget.model_dump_json() for budget in budgets))
    else:
        said = f"{episode.task_id}, {episode.policy}, {episode.strategy}"
        print(f"{said}, window {episode.window_tokens}, {episode.stop_reason.value}")
        print(format_turns(budgets) if turn is None else format_turn(budgets[0]))
    return 0


def read_episode(named: str) -> Episode:
    """Read the episode that FILE:NUMBER names.

    Raises:
        UserError: There is no such file, it holds no episodes, or not so many.
    """
    file, _, number = named.rpartition(":")
    if not (file and number.isdigit()):
        file, number = named, "1"
    path = Path(file)
    if not path.is_file():
        raise UserError("there is no such file of episodes", got=file, remedy=f"e.g. {_EXAMPLE}")
    try:
        found = list(islice(stream_records(path, Episode), max(int(number), 1)))
    except (ValidationError, EOFError, OSError, zlib.error) as error:
        got = str(error).partition("\n")[0]
        remedy = "name a file below an `episodes` folder of a run, of this version"
        raise UserError(
            f"{path} holds no episodes that can be read", got=got, remedy=remedy
        ) from None
    if not 1 <= int(number) <= len(found):
        remedy = f"name one from 1 to {len(found)}" if found else "name a file that holds some"
        raise UserError("the file has no such episode", got=f"{path}:{number}", remedy=remedy)
    return found[-1]


def format_turns(budgets: Sequence[Budget]) -> str:
    """Return a line per turn: held, of that cached, results and samples, free, whether it fits."""
    rows = ["turn   held cached results assistant   free fits"]
    rows += [
        f"{each.turn:>4} {each.held:>6} {each.cached:>6} {sum(each.observations.values()):>7} "
        f"{each.assistant:>9} {each.free:>6} {'yes' if each.fits else 'no'}"
        for each in budgets
    ]
    return "\n".join(rows)


def format_turn(budget: Budget) -> str:
    """Return a line per kind of one view, with its share of the window."""
    sizes = {name: getattr(budget, name) for name in _KINDS}
    sizes |= {f"observation {name}": size for name, size in budget.observations.items()}
    sizes |= {"output reserve": budget.output_reserve, "free": budget.free}
    rows = [
        f"  {name:<16} {size:>7} {size / budget.window_tokens:>6.1%}"
        for name, size in sizes.items()
        if size
    ]
    fits = "fits" if budget.fits else "does not fit"
    ends = f"{budget.held} held, {budget.cached} of them cached; {fits}"
    return "\n".join([f"turn {budget.turn}: {ends}", *rows])
