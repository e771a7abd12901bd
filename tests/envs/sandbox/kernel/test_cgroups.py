"""Control groups are looked for as the kernel lays them out, and bound what they should."""

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from envs.sandbox.kernel.cgroups import (
    _USEFUL,
    _candidates,
    count_cpu_s,
    find_bases,
    join_group,
    make_group,
    opened,
    remove_group,
    remove_groups_of,
)


def folder_of(tmp_path, *, cgroup, mounts):
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    lines = [
        f"30 24 0:26 / {tmp_path}/{at} rw - {kind} none rw,{what}\n" for at, kind, what in mounts
    ]
    (proc / "mountinfo").write_text("20 1 8:1 / / rw - ext4 /dev/vda rw\n" + "".join(lines))
    return proc


def test_each_controller_of_version_1_has_its_own_place(tmp_path):
    proc = folder_of(
        tmp_path,
        cgroup="8:pids:/\n4:memory:/box/7\n0::/\n",
        mounts=[("pids", "cgroup", "pids"), ("mem", "cgroup", "memory"), ("u", "cgroup2", "x")],
    )
    assert _candidates(proc) == (tmp_path / "mem/box/7", tmp_path / "pids")


def test_the_cores_of_version_1_have_places_of_their_own(tmp_path):
    proc = folder_of(
        tmp_path,
        cgroup="3:cpu,cpuacct:/box\n0::/\n",
        mounts=[("both", "cgroup", "cpu,cpuacct"), ("u", "cgroup2", "x")],
    )
    assert _candidates(proc, _USEFUL) == (tmp_path / "both/box",)


@pytest.mark.parametrize(
    ("delegated", "found"),
    [({"user/app": "cpu memory pids", "user": "memory pids"}, "user/app"),
     ({"user/app": "cpu", "user": "memory pids"}, "user"),
     ({"user/app": "memory", "user": "pids"}, None)],
    ids=["own parent", "further up", "never both"],
)  # fmt: skip
def test_version_2_is_used_where_both_controllers_are_handed_down(tmp_path, delegated, found):
    (tmp_path / "all/user/app/own").mkdir(parents=True)
    for group, controllers in delegated.items():
        (tmp_path / "all" / group / "cgroup.subtree_control").write_text(controllers)
    mounts = [("all", "cgroup2", "nsdelegate")]
    proc = folder_of(tmp_path, cgroup="0::/user/app/own\n", mounts=mounts)
    assert _candidates(proc) == ((tmp_path / "all" / found,) if found else ())
    assert find_bases(proc) == ()  # a folder like any other bounds nothing


def test_without_proc_there_are_none(tmp_path):
    assert find_bases(tmp_path) == ()


NEEDED = pytest.mark.skipif(not find_bases(), reason="no control groups to be had here")


@NEEDED
def test_threads_that_ask_at_the_same_time_get_the_same_answer():
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: find_bases(), range(200))) == {find_bases()}


@NEEDED
def test_a_group_stops_processes_and_goes_away():
    bases, name = find_bases(), f"tightrope-{os.getpid()}-test"
    with contextlib.ExitStack() as stack:
        fds = [os.open(base, os.O_RDONLY) for base in bases]
        for fd in fds:
            stack.callback(os.close, fd)
        make_group(fds, name, memory_bytes=2**26, max_processes=3)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            join_group(fds, name)
            started = 0
            with contextlib.suppress(OSError):
                while started < 20:
                    if os.fork() == 0:
                        os.close(writer)
                        os.read(reader, 1)  # until the last of those that could write has ended
                        os._exit(0)
                    started += 1
            os._exit(started)
        os.close(writer)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        os.close(reader)
        remove_group(fds, name)
        make_group(fds, name, memory_bytes=2**26, max_processes=3)
    remove_groups_of(os.getpid())
    assert not any((base / name).exists() for base in bases)


@NEEDED
def test_a_group_weighs_as_much_as_who_makes_it_and_counts_what_it_computes():
    """In a process of its own: what it gives up of the cores it does not get back."""
    child = os.fork()
    if child == 0:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        name = f"tightrope-{os.getpid()}-idle"
        with opened(find_bases()) as fds, contextlib.ExitStack() as stack:
            stack.callback(remove_group, fds, name)
            make_group(fds, name, memory_bytes=2**28, max_processes=9)
            places = [base / name / "cpu.shares" for base in find_bases()]
            shares = [int(place.read_text()) for place in places if place.exists()]
            inner = os.fork()
            if inner == 0:
                join_group(fds, name)
                while time.process_time() < 0.05:
                    pass
                os._exit(0)
            os.waitpid(inner, 0)
            counted_s = count_cpu_s(fds, name)
        os._exit(0 if all(share == 3 for share in shares) and counted_s >= 0.04 else 1)
    assert os.waitpid(child, 0)[1] == 0
