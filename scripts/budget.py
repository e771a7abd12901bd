"""`tightrope budget EPISODE`: what the tokens of its views are spent on; or of texts, if they fit.

    tightrope budget runs/demo/evaluate/episodes/grpo.jsonl.gz:3
    tightrope budget runs/demo/evaluate/episodes/grpo.jsonl.gz:3 --turn 5
    tightrope budget --system prompt.txt --docs a.md b.md --window 128000 --reserve 4096

An episode is a file that a stage wrote, and its place in there, from 1; without one, the first. A
line for each turn, or all kinds of one turn. Texts are counted by any tokenizer, alone: the marks
that a chat template puts around them are not. `--json` prints records of `envs/context/budget.py`.
"""

import zlib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tokenizers import Tokenizer

from envs.context.budget import Budget, TextBudget, WindowBudget, measure_budget
from envs.errors import UserError
from envs.files import stream_records
from envs.records import Episode
from train.config.load import Flag, default_cache, parse_flags
from train.models.tokenizer_file import check_tokenizer

_EXAMPLE = "tightrope budget runs/demo/evaluate/episodes/grpo.jsonl.gz:3 --turn 5"
_TEXT_EXAMPLE = "tightrope budget --system prompt.txt --window 128000 --reserve 4096"
_TEXTS = ("system", "history", "docs")
_KINDS = ("template", "system", "tools", "task", "notes", "summaries", "unsplit", "assistant")


def main(argv: Sequence[str]) -> int:
    """Print the budget; returns the exit code."""
    flags = parse_flags(
        argv,
        prog="tightrope budget",
        description="Prints what the tokens of an episode's views, or of texts, are spent on.",
        example=_EXAMPLE,
        flags=[
            Flag("episode", "FILE:NUMBER, a file of episodes and a place in it", nargs="?"),
            Flag("--turn", "all kinds of this turn's view, from 1", kind=int),
            Flag("--system", "file of the system prompt, in place of an episode", kind=Path),
            Flag("--history", "file of what was said so far", kind=Path),
            Flag("--docs", "files of documents", kind=Path, nargs="+"),
            Flag("--window", "tokens that all may take", kind=int, least=1),
            Flag("--reserve", "of these, kept for the answer", kind=int, default=0, least=0),
            Flag(
                "--tokenizer", "folder, tokenizer.json or fetched model [the first that is there]"
            ),
            Flag("--json", "print records, one a line", kind=bool),
        ],
    )
    if any(flags[name] for name in _TEXTS):
        return _show_texts(flags)
    if flags["episode"] is None:
        remedy = f"e.g. {_EXAMPLE}; or {_TEXT_EXAMPLE}"
        raise UserError("neither an episode nor texts are named", remedy=remedy)
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


def _show_texts(flags: Mapping[str, Any]) -> int:
    """Print the budget of the texts that flags name."""
    if flags["episode"] or flags["turn"] or not flags["window"]:
        remedy = f"give --window and no episode: {_TEXT_EXAMPLE}"
        raise UserError("the budget of texts needs a window, and no episode", remedy=remedy)
    path = find_tokenizer(flags["tokenizer"], cache=default_cache())
    paths = [
        (f"{name} {each}", each)
        for name in _TEXTS
        for each in ((flags[name] or []) if name == "docs" else [flags[name]])
        if each is not None
    ]
    budget = TextBudget(
        window_tokens=flags["window"],
        output_reserve=flags["reserve"],
        tokens=count_tokens(paths, tokenizer=path),
    )
    if flags["json"]:
        print(budget.model_dump_json())
    else:
        print(f"counted by {path}")
        print(format_texts(budget))
    return 0


def find_tokenizer(named: str | None, *, cache: Path) -> Path:
    """Return the tokenizer.json that a user means; without a name the first fetched model's.

    Raises:
        UserError: There is none.
    """
    fetched = cache / "models"
    places = [Path(named).expanduser(), fetched / named] if named else sorted(fetched.glob("*"))
    for place in places:
        for path in (place / "tokenizer.json", place):
            if path.is_file():
                check_tokenizer(path)
                return path
    raise UserError(
        "there is no tokenizer",
        got=named or f"no model in {fetched}",
        remedy="name one with --tokenizer: a folder with tokenizer.json, the file, or a model that "
        "`tightrope model fetch` got",
    )


def count_tokens(texts: Sequence[tuple[str, Path]], *, tokenizer: Path) -> dict[str, int]:
    """Return the tokens of files of text by their names; one that is named twice counts twice.

    Raises:
        UserError: One cannot be read, or is no text.
    """
    counter = Tokenizer.from_file(str(tokenizer))
    counter.no_padding()
    counter.no_truncation()
    found: dict[str, int] = {}
    for name, path in texts:
        try:
            text = path.read_bytes().decode("utf-8")  # line ends as they are
        except (OSError, UnicodeDecodeError) as error:
            got = f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}"
            raise UserError(
                "a text cannot be read", got=got, remedy="name a text in UTF-8"
            ) from None
        num_tokens = len(counter.encode(text, add_special_tokens=False).ids)
        found[name] = found.get(name, 0) + num_tokens
    return found


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
    head = f"turn {budget.turn}: {budget.held} held, {budget.cached} of them cached"
    return _format_window(head, sizes, budget)


def format_texts(budget: TextBudget) -> str:
    """Return a line per text, with its share of the window."""
    head = f"window {budget.window_tokens}: {budget.held} held"
    return _format_window(head, budget.tokens, budget)


def _format_window(head: str, sizes: Mapping[str, int], budget: WindowBudget) -> str:
    sizes = {**sizes, "output reserve": budget.output_reserve, "free": budget.free}
    width = max(16, *map(len, sizes))
    rows = [
        f"  {name:<{width}} {size:>7} {size / budget.window_tokens:>6.1%}"
        for name, size in sizes.items()
        if size
    ]
    return "\n".join([f"{head}; {'fits' if budget.fits else 'does not fit'}", *rows])
