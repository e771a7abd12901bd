"""YAML + dotted overrides + flags -> Settings; reports all errors at once and never loads torch.

    accelerate launch train/grpo.py --config configs/tiny.yaml --grpo.learning_rate 2e-6

Every command parses its line with `parse_command` (or `parse_flags` where no experiment is
involved) and runs inside `train.stages.exit_codes.run_main`, which turns errors into exit codes.
"""

import argparse
import difflib
import json
import math
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import ValidationError

from envs.errors import UserError, suggest
from train.config.conflicts import find_conflicts
from train.config.help_text import describe_fields
from train.config.set_alone import describe_alone
from train.config.settings import RENAMED, RunSettings, Settings, list_fields
from train.config.trl_arguments import explain_refusal


@dataclass(frozen=True)
class Flag:
    """One argument of a command: `--name` takes a value (or is a switch), `name` is positional."""

    name: str
    help: str
    kind: type = str
    default: Any = None
    choices: tuple[str, ...] | None = None
    nargs: str | None = None
    least: float | None = None  # of a number


@dataclass(frozen=True)
class Command:
    """A parsed command line.

    Args:
        settings: The experiment, overrides applied.
        config: Its file; None where it is a task set alone.
        overrides: Dotted arguments as given, for passing on.
        tasks: The task set that `--tasks` named.
        dry_run: And the other common flags, as `--help` explains them.
        again: The line that goes on with it; '' where another command says it.
        flags: The command's own arguments by name, dashes as `_`.
    """

    settings: Settings
    config: Path | None
    overrides: tuple[str, ...] = ()
    tasks: Path | None = None
    dry_run: bool = False
    resume: bool = False
    clean: bool = False
    force: bool = False
    debug: bool = False
    again: str = ""
    flags: dict[str, Any] = field(default_factory=dict)

    @property
    def experiment(self) -> str:
        """The arguments that name this experiment, as one types them."""
        named = {"--tasks": self.tasks, "--config": self.config}
        words = [word for name, path in named.items() if path for word in (name, str(path))]
        return shlex.join([*words, *self.overrides])


_COMMON_FLAGS = (
    Flag("--dry-run", "check everything and show what would happen, change nothing", kind=bool),
    Flag("--resume", "continue where an interrupted run stopped", kind=bool),
    Flag("--clean", "delete what this stage wrote before, then start", kind=bool),
    Flag("--force", "continue although a check refuses", kind=bool),
)
COMMON = tuple(flag.name for flag in _COMMON_FLAGS)
DEBUG = Flag("--debug", "show the traceback of a user's error", kind=bool)
CACHE_VARIABLE = "TIGHTROPE_CACHE"
TASKS = Flag("--tasks", "folder of a task set, as tasks.dir; no --config is needed", kind=Path)
CONFIG = Flag("--config", "the experiment's YAML file, such as configs/tiny.yaml", kind=Path)


def parse_command(
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    example: str,
    flags: Sequence[Flag] = (),
    common: Collection[str] = COMMON,
) -> Command:
    """Parse a command that works on an experiment: `--config`, dotted overrides, common flags.

    Args:
        argv: Arguments without the program's name.
        prog: What the user types before the arguments.
        description: One sentence for `--help`.
        example: One command line that works.
        flags: The command's own arguments; one with `TASKS` works on a set alone, too.
        common: Which of the common flags the command understands.

    Raises:
        UserError: All errors of the line and of the file, in one message.
    """
    rest, overrides = split_overrides(argv)
    shared = [flag for flag in _COMMON_FLAGS if flag.name in common]
    parser = _parser(prog, description, example, flags=[*flags, CONFIG, *shared, DEBUG])
    parser.epilog = f"{parser.epilog}\n\n{describe_fields()}"
    given = vars(parser.parse_args(rest))
    _check_numbers(flags, given)
    config, tasks = given.pop("config"), given.pop("tasks", None)
    if config is None and tasks is None:
        what = f"{prog} needs --config{' or --tasks' if TASKS in flags else ''}"
        raise UserError(what, remedy=f"name an experiment: {example}")
    switches = {_dest(flag): given.pop(_dest(flag)) for flag in (*shared, DEBUG)}
    of_set = [] if tasks is None else ["--tasks.dir", json.dumps(str(tasks))]
    data = describe_alone(tasks) if config is None else _read_yaml(config)
    given_fields = [*_from_environment(), *of_set, *overrides]
    settings = settle(data, str(config or tasks), given_fields)
    return Command(
        settings=settings,
        config=config,
        overrides=tuple(overrides),
        tasks=tasks,
        flags=given,
        **switches,
    )


def parse_flags(
    argv: Sequence[str], *, prog: str, description: str, example: str, flags: Sequence[Flag] = ()
) -> dict[str, Any]:
    """Parse a command that needs no experiment; returns its arguments by name, and `debug`."""
    parser = _parser(prog, description, example, flags=[*flags, DEBUG])
    given = vars(parser.parse_args(list(argv)))
    _check_numbers(flags, given)
    return given


def default_cache() -> Path:
    """Return the cache of a command that works on no experiment: $TIGHTROPE_CACHE or the default.

    Here and nowhere else is the environment read outside the entry points: only they parse command
    lines, and one that forgot the variable would look for tasks where no other command puts them.
    """
    default: str = RunSettings.model_fields["cache"].default
    return Path(os.environ.get(CACHE_VARIABLE) or default).expanduser()


def load_settings(config: Path, overrides: Sequence[str] = ()) -> Settings:
    """Return the experiment in `config` with `overrides` applied.

    Args:
        config: A YAML file.
        overrides: Such as `["--grpo.learning_rate", "2e-6", "--run.seed=1"]`.

    Raises:
        UserError: The file cannot be read, or every wrong key, type and combination at once.
    """
    return settle(_read_yaml(config), str(config), overrides)


def settle(data: dict[str, Any], name: str, overrides: Sequence[str]) -> Settings:
    """Return the sections in `data`, called `name`, with `overrides`, as `load_settings` does."""
    problems: list[str] = []
    pairs = split_overrides(overrides)[1]
    for field_name, text in zip(pairs[::2], pairs[1::2], strict=True):
        problem = _apply(data, field_name.removeprefix("--"), text)
        problems += [problem] if problem else []
    settings, found = _validate(data)
    problems += found
    if settings is None or problems:
        text = problems[0]
        if len(problems) > 1:
            text = "\n  ".join([f"{len(problems)} errors:", *problems]) + "\n"
        remedy = "correct the file or the flags; `--help` lists every field"
        raise UserError(f"{name}: {text}", remedy=remedy)
    return settings


def _from_environment() -> list[str]:
    """Return $TIGHTROPE_CACHE as an override: stronger than the file, weaker than a flag."""
    if not os.environ.get(CACHE_VARIABLE):
        return []
    return [f"--run.cache={json.dumps(str(default_cache()))}"]


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line, exit code 2, near miss named."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
        known = [name for action in self._actions for name in action.option_strings]
        fields = _same_name(unknown[2:]) if "--config" in known else []
        near = [f"--{path}" for path in fields] or difflib.get_close_matches(unknown, known)
        hint = f"; did you mean {' or '.join(near)}?" if near and unknown.startswith("--") else ""
        raise UserError(f"{self.prog}: {message}{hint}", remedy=f"see `{self.prog} --help`")


def _parser(prog: str, description: str, example: str, *, flags: Sequence[Flag]) -> _Parser:
    parser = _Parser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for flag in flags:
        options: dict[str, Any] = {"help": flag.help, "default": flag.default}
        if flag.kind is bool:
            options |= {"action": "store_true", "default": False}
        else:
            options |= {"type": flag.kind, "choices": flag.choices, "nargs": flag.nargs}
            if flag.choices is None and flag.name.startswith("--"):
                options["metavar"] = flag.kind.__name__.upper().replace("PATH", "FILE")
            if flag.default is not None:
                options["help"] += f" [{flag.default}]"
        parser.add_argument(flag.name, **options)
    return parser


def _check_numbers(flags: Sequence[Flag], given: Mapping[str, Any]) -> None:
    """Refuse numbers that are too small, and what is none."""
    for flag in flags:
        value = given[_dest(flag)] if flag.least is not None else None
        if value is not None and not flag.least <= value < math.inf:
            remedy = f"give {flag.least:g} or more"
            raise UserError(f"{flag.name} is too small or no number", got=str(value), remedy=remedy)


def _dest(flag: Flag) -> str:
    return flag.name.lstrip("-").replace("-", "_")


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split `argv` into other arguments and a flat list of `--a.b`, `value` pairs."""
    rest: list[str] = []
    overrides: list[str] = []
    queue = list(argv)
    while queue:
        token = queue.pop(0)
        name, equals, value = token.partition("=")
        if not name.startswith("--") or "." not in name:
            rest.append(token)
            continue
        if not equals:
            if not queue or queue[0].startswith("--"):
                raise UserError(f"{name} needs a value", remedy=f"write `{name} VALUE`")
            value = queue.pop(0)
        overrides += [name, value]
    return rest, overrides


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for (key, _), name in zip(node.value, keys, strict=True):
            if keys.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {name!r} is given twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def _read_yaml(config: Path) -> dict[str, Any]:
    try:
        with config.open(encoding="utf-8") as file:  # its name appears in what YAML says
            data = yaml.load(file, Loader=_UniqueKeyLoader)
    except OSError as error:
        remedy = "name an existing YAML file, such as configs/tiny.yaml"
        raise UserError(f"cannot read {config}: {error.strerror}", remedy=remedy) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{config} is not YAML: {text}", remedy="correct the file") from error
    if not isinstance(data, dict):
        remedy = f"start with one of the sections {', '.join(Settings.model_fields)}"
        raise UserError(f"{config} holds no sections", got=type(data).__name__, remedy=remedy)
    return data


def _apply(data: dict[str, Any], path: str, text: str) -> str | None:
    """Set `path` in `data`; returns what is wrong. Scalars stay text, which pydantic converts."""
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        return f"{path}: not a YAML value (got {text})"
    typed = path.startswith("prompt.template_args.")  # no field says their types
    value = text if isinstance(parsed, bool | int | float) and not typed else parsed
    *parents, leaf = path.split(".")
    for name in parents:
        inner = data.setdefault(name, {})
        if not isinstance(inner, dict):
            return f"{path}: {name} is not a section (got {inner!r} in the file)"
        data = inner
    data[leaf] = value
    return None


def _validate(data: dict[str, Any]) -> tuple[Settings | None, list[str]]:
    """Return the settings, or None and what is wrong: fields, and conflicts of the others."""
    problems: list[str] = []
    wrong: set[str] = set()
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        for item in error.errors():
            if item["type"] == "default_factory_not_called":
                continue  # follows from another error
            # without pydantic's suffixes for items and for parts of a union
            depth = 3 if item["loc"][:2] == ("grpo", "trl") else 2
            path = ".".join(map(str, item["loc"][:depth]))
            wrong.add(path)
            problems.append(f"{path}: {_explain(item, path)}")
        try:
            settings = Settings.model_validate(_repaired(data, wrong))
        except ValidationError:  # a section is none, say
            return None, problems
    conflicts = [each for each in find_conflicts(settings) if not wrong & {*each.fields}]
    problems += [f"{' and '.join(each.fields)}: {each.reason}" for each in conflicts]
    return settings, problems


def _explain(item: Any, path: str) -> str:
    """Return what pydantic found wrong with a field, in our words."""
    if item["type"] == "missing":
        return "required"
    text = f"{item['msg'][0].lower()}{item['msg'][1:]}"
    if item["type"] == "model_type":
        return text
    if item["type"] == "extra_forbidden":
        section, _, name = path.rpartition(".")
        text = explain_refusal(name) if section == "grpo.trl" else _near_miss(section, name)
    got = repr(item["input"]).replace("'", "")
    return f"{text} (got {got})"


def _near_miss(section: str, name: str) -> str:
    if today := RENAMED.get(f"{section}.{name}"):
        return f"unknown key; its name is '{today}' now"
    if elsewhere := _same_name(name):
        return f"unknown key; did you mean {' or '.join(map(repr, elsewhere))}?"
    here = [path for path in list_fields() if path.startswith(f"{section}.")]
    known = [path.partition(".")[2] for path in here] or Settings.model_fields
    return f"unknown key; {suggest(name, known)}"


def _same_name(name: str) -> list[str]:
    """Return the fields that have this name, in whatever section."""
    return [path for path in list_fields() if path.endswith(f".{name}")]


def _repaired(data: dict[str, Any], wrong: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `data` without the wrong fields, and with placeholders for required ones."""
    copy = deepcopy({name: part for name, part in data.items() if isinstance(part, dict)})
    for path in wrong:
        *parents, leaf = path.split(".")
        inner: Any = copy
        for name in parents:
            inner = inner.get(name, {})
        inner.pop(leaf, None)
    copy.setdefault("run", {}).setdefault("name", "placeholder")
    copy.setdefault("model", {}).setdefault("base", "./placeholder")
    return copy
