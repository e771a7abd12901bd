"""YAML + dotted overrides + flags -> Settings; reports all errors at once and never loads torch.

    accelerate launch train/grpo.py --config configs/tiny.yaml --grpo.learning_rate 2e-6

Every command parses its line with `parse_command` (or `parse_flags` where no experiment is
involved) and runs inside `train.stages.ending.run_main`, which turns errors into exit codes.
"""

import argparse
import difflib
import json
import os
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel, ValidationError

from envs.errors import UserError
from train.config.conflicts import find_conflicts
from train.config.help_text import describe_fields, field_rows, section_of
from train.config.settings import RunSettings, Settings


@dataclass(frozen=True)
class Flag:
    """One argument of a command: `--name` takes a value (or is a switch), `name` is positional."""

    name: str
    help: str
    kind: type = str
    default: Any = None
    choices: tuple[str, ...] | None = None
    nargs: str | None = None


@dataclass(frozen=True)
class Command:
    """A parsed command line.

    Args:
        settings: The experiment, overrides applied.
        config: Its file.
        overrides: Dotted arguments as given, for passing on.
        dry_run: And the other common flags, as `COMMON_FLAGS` explains them.
        flags: The command's own arguments by name, dashes as `_`.
    """

    settings: Settings
    config: Path
    overrides: tuple[str, ...] = ()
    dry_run: bool = False
    resume: bool = False
    clean: bool = False
    force: bool = False
    debug: bool = False
    flags: dict[str, Any] = field(default_factory=dict)

    @property
    def experiment(self) -> str:
        """The arguments that name this experiment, as one types them."""
        return shlex.join(["--config", str(self.config), *self.overrides])


COMMON_FLAGS = (
    Flag("--dry-run", "check everything and show what would happen, change nothing", kind=bool),
    Flag("--resume", "go on where an interrupted run stopped", kind=bool),
    Flag("--clean", "delete what this stage wrote before, then start", kind=bool),
    Flag("--force", "go on although a check refuses", kind=bool),
)
DEBUG = Flag("--debug", "show the traceback of a user's error", kind=bool)
CACHE_VARIABLE = "TIGHTROPE_CACHE"
CONFIG = Flag("--config", "the experiment's YAML file, such as configs/tiny.yaml", kind=Path)


def parse_command(
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    example: str,
    flags: Sequence[Flag] = (),
    common: Sequence[Flag] = COMMON_FLAGS,
) -> Command:
    """Parse a command that works on an experiment: `--config`, dotted overrides, common flags.

    Args:
        argv: Arguments without the program's name.
        prog: What the user types before the arguments.
        description: One sentence for `--help`.
        example: One command line that works.
        flags: The command's own arguments.
        common: Which of `COMMON_FLAGS` the command understands.

    Raises:
        UserError: All errors of the line and of the file, in one message.
    """
    rest, overrides = _split_overrides(argv)
    parser = _parser(prog, description, example, flags=[*flags, CONFIG, *common, DEBUG])
    parser.epilog = f"{parser.epilog}\n\n{describe_fields()}"
    given = vars(parser.parse_args(rest))
    config = given.pop("config")
    if config is None:
        raise UserError(f"{prog} needs --config", remedy=f"name an experiment: {example}")
    names = {_dest(flag) for flag in (*COMMON_FLAGS, DEBUG)} & given.keys()
    switches = {name: given.pop(name) for name in names}
    settings = load_settings(config, [*_from_environment(), *overrides])
    return Command(
        settings=settings, config=config, overrides=tuple(overrides), flags=given, **switches
    )


def parse_flags(
    argv: Sequence[str], *, prog: str, description: str, example: str, flags: Sequence[Flag] = ()
) -> dict[str, Any]:
    """Parse a command that needs no experiment; returns its arguments by name, and `debug`."""
    parser = _parser(prog, description, example, flags=[*flags, DEBUG])
    return vars(parser.parse_args(list(argv)))


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
    data = _read_yaml(config)
    problems: list[str] = []
    pairs = _split_overrides(overrides)[1]
    for name, text in zip(pairs[::2], pairs[1::2], strict=True):
        problem = _apply(data, name.removeprefix("--"), text)
        problems += [problem] if problem else []
    settings, found = _validate(data)
    problems += found
    if settings is None or problems:
        text = problems[0]
        if len(problems) > 1:
            text = "\n  ".join([f"{len(problems)} errors:", *problems]) + "\n"
        remedy = "mend the file or the flags; `--help` lists every field"
        raise UserError(f"{config}: {text}", remedy=remedy)
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
        leaves = [f"--{row.path}" for row in field_rows() if row.path.endswith(f".{unknown[2:]}")]
        near = (leaves if "--config" in known else []) or difflib.get_close_matches(unknown, known)
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


def _dest(flag: Flag) -> str:
    return flag.name.lstrip("-").replace("-", "_")


def _split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
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
        raise UserError(f"{config} is not YAML: {text}", remedy="mend the file") from error
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
            if item["type"] != "default_factory_not_called":
                path, model = _known_path(item["loc"])
                wrong.add(path)
                problems.append(_message(item, path, model))
        try:
            settings = Settings.model_validate(_repaired(data, wrong))
        except ValidationError:  # a section is none, say
            return None, problems
    found = [conflict for conflict in find_conflicts(settings) if not wrong & set(conflict.fields)]
    problems += [f"{' and '.join(conflict.fields)}: {conflict.reason}" for conflict in found]
    return (None if problems else settings), problems


def _known_path(loc: tuple[int | str, ...]) -> tuple[str, type[BaseModel]]:
    """Return the field that an error is about (without pydantic's union and item suffixes)."""
    model: type[BaseModel] = Settings
    path: list[str] = []
    for name in map(str, loc):
        path.append(name)
        info = model.model_fields.get(name)
        inner = section_of(info) if info else None
        if inner is None:
            break
        model = inner
    return ".".join(path), model


def _message(item: Any, path: str, model: type[BaseModel]) -> str:
    if item["type"] == "missing":
        return f"{path}: required"
    got = f" (got {item['input']!r})".replace("'", "") if item["type"] != "model_type" else ""
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key; {_near_miss(path.split('.')[-1], model)}{got}"
    text = item["msg"]
    return f"{path}: {text[0].lower()}{text[1:]}{got}"


def _near_miss(name: str, model: type[BaseModel]) -> str:
    elsewhere = [row.path for row in field_rows() if row.path.split(".")[-1] == name]
    near = elsewhere or difflib.get_close_matches(name, model.model_fields, n=1)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known here: {', '.join(model.model_fields)}"


def _repaired(data: dict[str, Any], wrong: Collection[str]) -> dict[str, Any]:
    """Return a copy of `data` without the wrong fields, and with placeholders for required ones."""
    copy = {name: dict(part) for name, part in data.items() if isinstance(part, dict)}
    for path in wrong:
        *parents, leaf = path.split(".")
        inner: Any = copy
        for name in parents:
            inner = inner.get(name, {})
        inner.pop(leaf, None)
    copy.setdefault("run", {}).setdefault("name", "placeholder")
    copy.setdefault("model", {}).setdefault("base", "./placeholder")
    return copy
