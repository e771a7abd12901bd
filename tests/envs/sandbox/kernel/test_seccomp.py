"""What is not on the list does not exist; what is on it is bound to what a run needs.

Most is asked of the assembled program itself, in an interpreter of a few lines: so for both
architectures, and without a call that would do harm if it were let through.
"""

import ctypes
import errno
import fcntl
import json
import os
import socket
import struct

import pytest

from envs.sandbox.kernel import isolation, seccomp, system_calls
from envs.sandbox.kernel.seccomp import FilterRules, assemble

FULL = FilterRules(new_processes=True, private_pids=True, private_root=True)
LOWEST = FilterRules(new_processes=False, private_pids=False, private_root=False)
SECOND_RUNNER = FilterRules(True, True, True, gives_up_root=True)
LEVELS = {"full": FULL, "lowest": LOWEST, "second runner": SECOND_RUNNER}
OWN_PID, OTHER_PID = 77, 78
MACHINES = list(seccomp._AUDIT_ARCH)
LISTED = {
    name: numbers
    for group in vars(system_calls).values()
    if isinstance(group, dict)
    for name, numbers in group.items()
    if isinstance(numbers, tuple)
}
# A sample of what no run needs, with numbers of its own: (x86_64, aarch64).
UNKNOWN = {
    "ptrace": (101, 117), "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268),
    "keyctl": (250, 219), "bpf": (321, 280), "io_uring_setup": (425, 425), "flock": (73, 32),
    "inotify_init1": (294, 26), "memfd_create": (319, 279), "shmget": (29, 194),
    "mq_open": (240, 180), "process_vm_readv": (310, 270), "perf_event_open": (298, 241),
    "pidfd_open": (434, 434), "clone3": (435, 435), "openat2": (437, 437),
    "open_by_handle_at": (304, 265), "setxattrat": (463, 463), "sysinfo": (99, 179),
    "mincore": (27, 232), "cachestat": (451, 451), "fadvise64": (221, 223), "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444), "execveat": (322, 281), "sched_setattr": (314, 274),
    "ioprio_set": (251, 30), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "recvmmsg": (299, 243), "sendmmsg": (307, 269), "timer_create": (222, 107),
    "a call of a later kernel": (599, 599),
}  # fmt: skip


def judge(program: bytes, number: int, *arguments: int, machine: str = "x86_64") -> int:
    """Return what the filter decides."""
    words = [value & 2**64 - 1 for value in (*arguments, *[0] * 6)[:6]]
    data = struct.pack("=IIQ6Q", number, seccomp._AUDIT_ARCH[machine], 0, *words)
    at = accumulator = 0
    while True:
        code, jump_true, jump_false, value = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == seccomp._LD:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == seccomp._AND:
            accumulator &= value
        elif code == seccomp._RET:
            return value
        else:
            is_so = accumulator == value if code == seccomp._JEQ else accumulator >= value
            at += jump_true if is_so else jump_false


def ask(program: bytes, number: int, *arguments: int, machine: str = "x86_64") -> int:
    """Return the error that the filter answers with, 0 if the call is let through."""
    verdict = judge(program, number, *arguments, machine=machine)
    return 0 if verdict == seccomp._ALLOW else verdict & 0xFFFF


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("rules", LEVELS.values(), ids=LEVELS)
def test_what_is_not_on_the_list_does_not_exist(rules: FilterRules, machine: str) -> None:
    program, column = assemble(rules, own_pid=OWN_PID, machine=machine), MACHINES.index(machine)
    listed = {numbers[column] for numbers in LISTED.values()}
    known = [number for number in range(700) if number in listed]
    for number in range(700):
        answer = ask(program, number, *[0] * 6, machine=machine)
        assert number in listed or answer == errno.ENOSYS, number
    assert 100 < len(known) < 230
    for name, numbers in UNKNOWN.items():
        assert ask(program, numbers[column], machine=machine) == errno.ENOSYS, name


@pytest.mark.parametrize("column", [0, 1], ids=MACHINES)
def test_no_number_stands_for_two_calls(column: int) -> None:
    numbers = [both[column] for both in LISTED.values() if both[column] is not None]
    assert len(numbers) == len(set(numbers))


NAME_A_RIGHT = [("fork", ()), ("execve", ()), ("chmod", ()), ("utimensat", ()), ("kill", (78,))]


@pytest.mark.parametrize(("name", "arguments"), NAME_A_RIGHT)
def test_what_depends_on_the_level_is_refused_as_honest_code_knows_it(name, arguments) -> None:
    number = LISTED[name][0]
    assert ask(assemble(FULL, own_pid=OWN_PID, machine="x86_64"), number, *arguments) == 0
    lowest = assemble(LOWEST, own_pid=OWN_PID, machine="x86_64")
    assert ask(lowest, number, *arguments) == errno.EPERM


@pytest.mark.parametrize("name", ["socket", "bind", "connect", "listen", "accept4", "setpriority",
                                  "sched_setaffinity", "sched_setscheduler"])  # fmt: skip
@pytest.mark.parametrize("rules", LEVELS.values(), ids=LEVELS)
def test_some_calls_are_refused_at_every_level(name: str, rules: FilterRules) -> None:
    program = assemble(rules, own_pid=OWN_PID, machine="x86_64")
    assert ask(program, LISTED[name][0]) == errno.EPERM


def test_only_the_second_runner_becomes_another_user() -> None:
    for name in system_calls.GIVING_UP_ROOT:
        answers = [ask(assemble(rules, own_pid=1, machine="x86_64"), LISTED[name][0])
                   for rules in (FULL, SECOND_RUNNER)]  # fmt: skip
        assert answers == [errno.ENOSYS, 0]


UNIX, INET, STREAM, DATAGRAM, PACKETS = 1, 2, 1, 2, 5
ARGUMENTS = [
    ("socketpair", (UNIX, STREAM), 0),
    ("socketpair", (UNIX, STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK), 0),
    ("socketpair", (UNIX, DATAGRAM), errno.EPERM),
    ("socketpair", (UNIX, PACKETS | socket.SOCK_CLOEXEC), errno.EPERM),
    ("socketpair", (INET, STREAM), errno.EPERM),
    ("sendto", (3, 2**40, 1, 0, 0, 0), 0),
    ("sendto", (3, 2**40, 1, 0, 2**40, 110), errno.EPERM),  # an address whose low word is 0
    ("fcntl", (3, fcntl.F_SETLKW), 0),
    ("fcntl", (3, fcntl.F_DUPFD_CLOEXEC), 0),
    *(("fcntl", (3, command), errno.EPERM)
      for command in (fcntl.F_SETOWN, 10, 15, fcntl.F_GETLK, 36, fcntl.F_SETLEASE, fcntl.F_GETLEASE,
                      fcntl.F_NOTIFY, 1031, 1033, 1036)),
    ("ioctl", (1, 0x5401), 0),
    ("ioctl", (1, 0x5421), 0),
    *(("ioctl", (3, command), errno.ENOTTY)
      for command in (0x5412, 0x8901, 0x8902, 0x5452, 0x4008_6602, 0x8008_6601, 0x401C_5820,
                      0x801C_581F, 0x4020_940D, 0x4004_9409, 0xC020_660B)),
    ("prctl", (15,), 0),
    *(("prctl", (option,), errno.EINVAL) for option in (1, 4, 8, 22, 31, 36, 0x5961_6D61)),
    ("clone", (0x0100_0011,), 0),
    *(("clone", (flag | 17,), errno.EPERM) for flag in (0x1000_0000, 0x2000_0000, 0x80, 0x2_0000)),
    ("prlimit64", (0,), 0),
    ("prlimit64", (OTHER_PID,), errno.EPERM),
    ("openat", (-100, 0, os.O_RDONLY | os.O_TRUNC), errno.EPERM),
    ("openat", (-100, 0, os.O_WRONLY | os.O_TRUNC), 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "error"), ARGUMENTS)
def test_arguments_are_bound_at_every_level(name, arguments, error) -> None:
    for machine in MACHINES:
        program = assemble(FULL, own_pid=OWN_PID, machine=machine)
        number = LISTED[name][MACHINES.index(machine)]
        assert ask(program, number, *arguments, machine=machine) == error


@pytest.mark.parametrize(
    ("name", "own", "others"),
    [
        ("kill", (OWN_PID,), (OTHER_PID,)),
        ("kill", (OWN_PID,), (-1,)),
        ("tgkill", (OWN_PID, 80), (OTHER_PID, OTHER_PID)),
        ("getsid", (0,), (OTHER_PID,)),
        ("getpgid", (OWN_PID,), (OTHER_PID,)),
        ("getpriority", (0, 0), (0, OTHER_PID)),
        ("clock_gettime", (2,), (~OTHER_PID << 3 | 2,)),
        ("clock_nanosleep", (1,), (~OTHER_PID << 3 | 2,)),
        ("clone", (0x3D0F00,), (17,)),
    ],
)
def test_where_others_can_be_named_a_run_reaches_itself_only(name, own, others) -> None:
    number = LISTED[name][0]
    program = assemble(LOWEST, own_pid=OWN_PID, machine="x86_64")
    assert ask(program, number, *own) == 0
    assert ask(program, number, *others) in (errno.EPERM, errno.EINVAL)


def test_another_table_of_calls_ends_the_process() -> None:
    program = assemble(FULL, own_pid=OWN_PID, machine="x86_64")
    read = LISTED["read"]
    assert judge(program, read[0]) == seccomp._ALLOW
    assert judge(program, 0x4000_0000 | read[0]) == seccomp._KILL_PROCESS
    assert judge(program, read[1], machine="aarch64") == seccomp._KILL_PROCESS


def test_the_kernel_takes_the_program_and_python_goes_on() -> None:
    """In a process of its own: a filter stays."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        isolation.drop_privileges(None)
        isolation.install_filter(assemble(FULL, own_pid=os.getpid()))
        told = {name: call(numbers) for name, numbers in UNKNOWN.items()}
        one, other = socket.socketpair()
        one.sendall(b"x")
        told["pair"] = other.recv(1).decode()
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    told = json.loads(os.read(reader, 2**16))
    os.close(reader)
    assert os.waitpid(child, 0)[1] == 0
    assert told.pop("pair") == "x"
    assert set(told.values()) == {errno.ENOSYS}


def call(numbers: tuple[int, int]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = numbers[MACHINES.index(os.uname().machine)]
    return ctypes.get_errno() if libc.syscall(number, -1, -1, -1, -1, -1, -1) < 0 else 0
