"""What an entry of `evaluate.policies` is, by its text alone: a name, a folder, or a hub id.

base  sft  sft-greedy  grpo  gold              this run's policies, and scripts
runs/x/grpo/checkpoints/checkpoint-40:greedy   an adapter or a model, best token each time
endpoint:http://127.0.0.1:8000/v1#MODEL        a model of an OpenAI-compatible chat server
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envs.errors import suggest

SCRIPTS = ("gold", "careful", "wasteful", "noop")
OF_THE_RUN = ("base", "sft", "grpo")
SHIPPED = ("smollm2-135m", "qwen2.5-coder-0.5b")  # of `tightrope model fetch`; need no slash
GREEDY_NAME, GREEDY_FOLDER = "-greedy", ":greedy"
ENDPOINT = "endpoint:"
KEY_VARIABLE = "TIGHTROPE_ENDPOINT_KEY"  # read by the commands that ask endpoints
_ADDRESS = re.compile(r"(https?)://([^/\s@#]+)((?:/[^\s#]*)?)#(\S.*)")
_NOT_IN_NAMES = {"/", ".", "..", "~", "checkpoints"}  # parts of a path that say nothing


@dataclass(frozen=True)
class PolicyEntry:
    """One entry.

    Attributes:
        policy: A name, a folder or a hub id, without the suffix for greedy sampling.
        is_greedy: Takes the likeliest token, once per task.
        kind: A script, a policy `of_the_run`, an adapter or a model from `elsewhere`, or one behind
            an `endpoint`.
    """

    policy: str
    is_greedy: bool
    kind: Literal["script", "of_the_run", "elsewhere", "endpoint"]


def parse_entry(text: str) -> PolicyEntry:
    """Parse an entry.

    Raises:
        ValueError: It is nothing that could be played.
    """
    if text in SCRIPTS:
        return PolicyEntry(text, False, "script")
    if text.startswith(ENDPOINT):
        address = text.removesuffix(GREEDY_FOLDER)
        split_address(address)
        return PolicyEntry(address, address != text, "endpoint")
    name = text.removesuffix(GREEDY_FOLDER).removesuffix(GREEDY_NAME)
    if name in OF_THE_RUN:
        return PolicyEntry(name, name != text, "of_the_run")
    if name in SCRIPTS:
        raise ValueError(f"{name} is a script and samples nothing; write '{name}'")
    folder = text.removesuffix(GREEDY_FOLDER)
    if "/" in folder or folder in (*SHIPPED, ".", "..", "~"):
        return PolicyEntry(folder, folder != text, "elsewhere")
    names = [*OF_THE_RUN, *(f"{each}{GREEDY_NAME}" for each in OF_THE_RUN), *SCRIPTS]
    remedy = f"{suggest(text, names)}, or write a folder with a slash"
    raise ValueError(f"no policy is called '{text}'; {remedy}")


def split_address(text: str) -> tuple[str, str]:
    """Return URL and model of `endpoint:URL#MODEL`.

    Raises:
        ValueError: It is not of that form.
    """
    found = _ADDRESS.fullmatch(text.removeprefix(ENDPOINT))
    if not found:
        raise ValueError(f"no address of a chat server: write {ENDPOINT}http://HOST:PORT/v1#MODEL")
    return f"{found[1]}://{found[2]}{found[3]}".rstrip("/"), found[4]


def check_policy(text: str) -> str:
    """Return `text` if it is an entry; for pydantic."""
    parse_entry(text)
    return text


def name_entries(entries: Sequence[PolicyEntry]) -> dict[str, str]:
    """Return a name for each policy, for files and tables.

    Of a folder its last, specific parts; of a model behind an endpoint those of its name there.
    """
    taken = {*SCRIPTS, *OF_THE_RUN}
    places = [entry for entry in entries if entry.kind in ("elsewhere", "endpoint")]
    found = {entry.policy: entry.policy for entry in entries if entry not in places}
    parts = {entry.policy: _parts(_path_of(entry)) for entry in places}
    for policy, mine in parts.items():
        others = [theirs for other, theirs in parts.items() if other != policy]
        for length in range(min(2, len(mine)), len(mine) + 1):
            name = "-".join(mine[-length:])
            clash = any("-".join(theirs[-length:]) == name for theirs in others)
            if not clash and name not in taken:
                break
        number = 2
        while name in taken:
            name, number = f"{'-'.join(mine)}-{number}", number + 1
        taken.add(name)
        found[policy] = name
    return found


def _path_of(entry: PolicyEntry) -> str:
    """Return a path that names a policy from elsewhere: host and model of an endpoint's."""
    if entry.kind != "endpoint":
        return entry.policy
    url, model = split_address(entry.policy)
    return f"{url.partition('://')[2]}/{model}"


def _parts(folder: str) -> list[str]:
    """Return the parts of a path that may stand in a name, which never ends like a greedy one."""
    parts = [part for part in Path(folder).parts if part not in _NOT_IN_NAMES] or ["folder"]
    safe = [re.sub(r"[^A-Za-z0-9._-]", "_", part) for part in parts]
    return [f"{part}_" if part.endswith(GREEDY_NAME) else part for part in safe]
