"""A seccomp filter assembled by hand: the system calls that a candidate's process may make.

What is not on the list does not exist (ENOSYS), so that Python and the C library fall back as on an
old kernel; what is on it may be bound to some arguments. What honest code tries in order to be told
no fails with EPERM. Other architectures than those of the lists are refused, and so is the x32
table. Standard library only.

Not covered: filters cannot look through pointers, so paths are Landlock's business.
"""

import errno
import os
import struct
from dataclasses import dataclass

from envs.sandbox.kernel import system_calls
from envs.sandbox.kernel.system_calls import Calls, Numbers

_ALWAYS: Calls = {
    **system_calls.FILES,
    **system_calls.MEMORY,
    **system_calls.PROCESS,
    **system_calls.TIME,
    **system_calls.SIGNALS,
    **system_calls.EVENTS,
    **system_calls.PAIRS,
}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x4000_0000
_CLONE_THREAD = 0x0001_0000
_CLONE_NEW_ANY = 0x7E02_0080  # every CLONE_NEW* flag
_O_ACCMODE_TRUNC = os.O_ACCMODE | os.O_TRUNC
_AF_UNIX, _SOCK_STREAM, _SOCKET_KIND = 1, 1, 0xF
# F_DUPFD to F_SETFL, F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW, F_DUPFD_CLOEXEC, F_GETPIPE_SZ.
# Not: owners and signals, whose locks and leases there are, watches, sizes that users share.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 6, 7, 37, 38, 1030, 1032)
# TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL_COMMANDS = (0x5401, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_CAPBSET_READ, PR_SET_NO_NEW_PRIVS, its GET
_PRCTL_OPTIONS = (3, 15, 16, 23, 38, 39)
_NUM_CLOCKS = 16  # what is above names the clock of a process or a device

_LD, _JEQ, _JGE, _AND, _RET = 0x20, 0x15, 0x35, 0x54, 0x06  # BPF: load word, jumps, mask, return
_ALLOW, _KILL_PROCESS = 0x7FFF_0000, 0x8000_0000
_ERRNO = 0x0005_0000
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data


@dataclass(frozen=True)
class FilterRules:
    """What one run may do.

    Attributes:
        new_processes: fork and exec are allowed (only where a pid namespace kills them all).
        private_pids: Processes need no filter, since no others can be named.
        private_root: Changing modes and times needs no filter, since no foreign file is writable.
        gives_up_root: It becomes another user itself.
    """

    new_processes: bool
    private_pids: bool
    private_root: bool
    gives_up_root: bool = False


def is_supported() -> bool:
    """Tell whether this architecture has a table here."""
    return os.uname().machine in _AUDIT_ARCH


def assemble(rules: FilterRules, *, own_pid: int, machine: str = "") -> bytes:
    """Return the BPF program (array of struct sock_filter) for a process with pid `own_pid`.

    Args:
        rules: What it may do.
        own_pid: Its process id.
        machine: Its architecture, if not that of this machine.
    """
    machine = machine or os.uname().machine
    allowed, refused = dict(_ALWAYS), dict(system_calls.REFUSED)
    (allowed if rules.new_processes else refused).update(system_calls.NEW_PROCESS)
    (allowed if rules.private_root else refused).update(system_calls.METADATA)
    if rules.gives_up_root:
        allowed |= system_calls.GIVING_UP_ROOT
    program = _Program(list(_AUDIT_ARCH).index(machine))
    program.begin(_AUDIT_ARCH[machine])
    _bind_arguments(program, rules)
    if not rules.private_pids:
        _bind_to_itself(program, own_pid)
    for numbers in allowed.values():
        program.end(numbers, _ALLOW)
    for numbers in refused.values():
        program.end(numbers, _ERRNO | errno.EPERM)
    program.add(_RET, _ERRNO | errno.ENOSYS)
    return program.code()


def _bind_arguments(program: "_Program", rules: FilterRules) -> None:
    call = _ALWAYS
    program.deny_if_bits(call["clone"], argument=0, mask=_CLONE_NEW_ANY)
    if not rules.new_processes:
        program.deny_unless_bits(call["clone"], argument=0, mask=_CLONE_THREAD)
    # A file that Landlock lets be read must not be emptied on the way (kernels before 6.2).
    for name, argument in {"open": 1, "openat": 2}.items():
        numbers = call[name]
        program.deny_if_equal(numbers, argument=argument, mask=_O_ACCMODE_TRUNC, value=os.O_TRUNC)
    program.deny_unless_among(call["fcntl"], argument=1, values=_FCNTL_COMMANDS, error=errno.EPERM)
    program.deny_unless_among(call["ioctl"], argument=1, values=_IOCTL_COMMANDS, error=errno.ENOTTY)
    program.deny_unless_among(call["prctl"], argument=0, values=_PRCTL_OPTIONS, error=errno.EINVAL)
    program.deny_unless_among(call["socketpair"], argument=0, values=(_AF_UNIX,))
    streams = (_SOCK_STREAM,)
    program.deny_unless_among(call["socketpair"], argument=1, values=streams, mask=_SOCKET_KIND)
    # The address's length: of the address itself a filter sees only half at a time.
    program.deny_unless_among(call["sendto"], argument=5, values=(0,))
    program.deny_unless_among(call["prlimit64"], argument=0, values=(0,))


def _bind_to_itself(program: "_Program", own_pid: int) -> None:
    """Let it neither signal other processes nor see what they have used or set."""
    for name in ("kill", "tgkill"):
        program.deny_unless_among(_ALWAYS[name], argument=0, values=(own_pid,))
    for name, argument in {"getpgid": 0, "getsid": 0, "getpriority": 1}.items():
        program.deny_unless_among(_ALWAYS[name], argument=argument, values=(0, own_pid))
    for name in ("clock_gettime", "clock_getres", "clock_nanosleep"):
        program.deny_from(_ALWAYS[name], argument=0, value=_NUM_CLOCKS, error=errno.EINVAL)


class _Program:
    """Appends instructions; after each check the accumulator holds the call's number again."""

    def __init__(self, column: int) -> None:
        self._column = column
        self._code: list[bytes] = []

    def add(self, code: int, value: int, *, jump_true: int = 0, jump_false: int = 0) -> None:
        self._code.append(struct.pack("=HBBI", code, jump_true, jump_false, value & 0xFFFF_FFFF))

    def begin(self, arch: int) -> None:
        """Kill what calls by another architecture's table, and load the call's number."""
        self.add(_LD, _ARCH)
        self.add(_JEQ, arch, jump_true=1)
        self.add(_RET, _KILL_PROCESS)
        self.add(_LD, _NR)
        self.add(_JGE, _X32_BIT, jump_false=1)
        self.add(_RET, _KILL_PROCESS)

    def code(self) -> bytes:
        return b"".join(self._code)

    def end(self, numbers: Numbers, action: int) -> None:
        """Answer a call with an action."""
        number = numbers[self._column]
        if number is not None:
            self.add(_JEQ, number, jump_false=1)
            self.add(_RET, action)

    def deny_if_bits(self, numbers: Numbers, *, argument: int, mask: int) -> None:
        """Deny when any bit of `mask` is set in the argument's low word."""
        self._check(numbers, argument, mask, [(_JEQ, 0, 1, 0)])

    def deny_unless_bits(self, numbers: Numbers, *, argument: int, mask: int) -> None:
        self._check(numbers, argument, mask, [(_JEQ, 0, 0, 1)])

    def deny_if_equal(self, numbers: Numbers, *, argument: int, mask: int, value: int) -> None:
        self._check(numbers, argument, mask, [(_JEQ, value, 0, 1)])

    def deny_from(self, numbers: Numbers, *, argument: int, value: int, error: int) -> None:
        """Deny `value` and all above it, taken without a sign."""
        self._check(numbers, argument, ~0, [(_JGE, value, 0, 1)], error)

    def deny_unless_among(
        self,
        numbers: Numbers,
        *,
        argument: int,
        values: tuple[int, ...],
        mask: int = ~0,
        error: int = errno.EPERM,
    ) -> None:
        tests = [(_JEQ, value, len(values) - i, 0) for i, value in enumerate(values)]
        self._check(numbers, argument, mask, tests, error)

    def _check(
        self,
        numbers: Numbers,
        argument: int,
        mask: int,
        tests: list[tuple[int, int, int, int]],
        error: int = errno.EPERM,
    ) -> None:
        """Look at an argument: a test falls through to the refusal behind the last, or jumps."""
        number = numbers[self._column]
        if number is None:
            return
        self.add(_JEQ, number, jump_false=len(tests) + 4)
        self.add(_LD, _ARGS + 8 * argument)  # the low word: both machines are little-endian
        self.add(_AND, mask)
        for code, value, jump_true, jump_false in tests:
            self.add(code, value, jump_true=jump_true, jump_false=jump_false)
        self.add(_RET, _ERRNO | error)
        self.add(_LD, _NR)
