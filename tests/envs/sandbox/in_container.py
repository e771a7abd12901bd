"""Grades and is attacked as another user, or where `unshare` and `mount` are denied.

    python tests/envs/sandbox/in_container.py user|container-root|container-nobody EMPTY_FOLDER

A default container denies both. Prints one JSON object: the level reached, which submissions were
solved, and what every attack of tests/attacks/sandbox came to that was not held.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[0] = str(ROOT)

from envs.grading.bwrap_runner import bubblewrap  # noqa: E402
from envs.grading.graders import make_grader  # noqa: E402
from envs.sandbox.kernel import isolation  # noqa: E402
from envs.sandbox.levels import ServerProcess, probe  # noqa: E402
from tests.attacks.attempts import attacks, name_of, try_sandbox  # noqa: E402
from tests.attacks.world import open_world  # noqa: E402
from tests.envs.sandbox.container_filter import assemble_container  # noqa: E402
from tests.envs.small_tasks import (  # noqa: E402
    BROKEN,
    FIXED,
    io_task,
    is_solved,
    pytest_task,
    store_of,
)

NOBODY = 65534


def main(role: str, folder: Path) -> None:
    if os.getuid() == 0 and role != "container-root":
        become_nobody(folder)
    elif role != "user":
        isolation.drop_privileges(None)
    if role != "user":
        isolation.install_filter(assemble_container())
        try:
            isolation.unshare(isolation.CLONE_NEWUSER)
        except PermissionError:
            pass
        else:
            raise AssertionError("unshare is not denied here")
    told = grade() | {"not held": be_attacked(), "second runner": bubblewrap().failure}
    print(json.dumps(told))


def become_nobody(folder: Path) -> None:
    """Leave root for a root file system in which nobody can read the interpreter."""
    os.umask(0o022)
    isolation.enter_namespaces()
    places = [sys.base_prefix, sys.prefix, str(ROOT)]
    copy_sources(folder)
    replace_tmp(folder, keep=[Path(name) for name in places if name.startswith("/tmp/")])
    isolation.enter_private_root(folder, readable=[*places, "/proc", "/tmp"])
    isolation._mount("none", "/tmp", flags=isolation._MS_REMOUNT | isolation._MS_BIND)
    isolation.enter_private_run(uid=NOBODY, gid=NOBODY)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    isolation._mount("proc", "/proc", kind="proc", flags=0)
    tempfile.tempdir = str(isolation.SCRATCH_DIR)
    isolation.drop_privileges(NOBODY)


def copy_sources(folder: Path) -> None:
    """Lay a copy of the sources over the checkout, which may belong to its owner alone."""
    isolation._mount("sources", str(folder), kind="tmpfs", flags=0, data="mode=0755")
    for name in ("envs", "rewards", "tests", "train"):
        for source in (ROOT / name).rglob("*.*"):
            if source.suffix != ".pyc" and source.is_file():
                target = folder / source.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    if Path(sys.prefix).is_relative_to(ROOT):
        isolation._bind(sys.prefix, folder / Path(sys.prefix).relative_to(ROOT))
    isolation._mount(str(folder), str(ROOT), flags=isolation._MS_BIND | isolation._MS_REC)


def replace_tmp(folder: Path, *, keep: list[Path]) -> None:
    """Make /tmp an empty tmpfs, but for what to keep in it and for `folder`, empty again."""
    isolation._mount("tmp", str(folder), kind="tmpfs", flags=0, data="mode=1777")
    for path in keep:
        isolation._bind(str(path), folder / path.relative_to("/tmp"))
    isolation._mount(str(folder), "/tmp", flags=isolation._MS_BIND | isolation._MS_REC)
    folder.mkdir(parents=True, exist_ok=True)


def grade() -> dict[str, object]:
    tasks = {"io": io_task(), "pytest": pytest_task()}
    store = store_of(*tasks.values())
    solved, levels = {}, set()
    with make_grader(store) as grader:
        for kind, task in tasks.items():
            for name, text in (("gold", FIXED), ("noop", BROKEN)):
                outcome = grader.grade(task.hidden, {**task.workspace, "calc.py": text})
                assert outcome.unscorable is None, outcome
                solved[f"{kind} {name}"] = is_solved(outcome)
                levels.add(outcome.sandbox_level)
    (level,) = levels
    return {"level": level, "solved": solved}


def be_attacked() -> dict[str, str]:
    process = ServerProcess(probe().require(), preload="pytest")
    with contextlib.closing(process) as server, open_world() as world:
        told = {
            name_of(attack): try_sandbox(attack, server, world) for attack in attacks("sandbox")
        }
    assert len(told) > 30
    return {name: verdict.told for name, verdict in told.items() if not verdict.held}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
