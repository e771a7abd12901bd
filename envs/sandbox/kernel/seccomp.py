"""A seccomp filter assembled by hand: which system calls a candidate's process may not make.

Denied calls fail with EPERM (or ENOSYS where the C library then falls back), so that honest code
sees an ordinary error. Numbers are the kernel's (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h); other architectures are refused, and so is the x32 table.
Standard library only.

Not covered: filters cannot look through pointers, so paths are Landlock's business.
Tests: tests/envs/sandbox/test_levels.py.
"""

import errno
import os
import struct
from dataclasses import dataclass

# Numbers on (x86_64, aarch64); None where the architecture has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "ptrace": (101, 117), "mount": (165, 40), "umount2": (166, 39),
    "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "pivot_root": (155, 41), "chroot": (161, 51), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "syslog": (103, 116), "acct": (163, 89), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "open_by_handle_at": (304, 265), "quotactl": (179, 60),
    "personality": (135, 92), "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186),
    "mq_open": (240, 180), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "mount_setattr": (442, 442), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None), "kcmp": (312, 272),
    "sethostname": (170, 161), "setdomainname": (171, 162), "fanotify_init": (300, 262),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "quotactl_fd": (443, 443), "lsm_set_self_attr": (460, 460),
}  # fmt: skip
# By these a run could tell another one something through a file that both may read, or reach a
# socket of the host with one end of a pair.
_CHANNELS = {"flock": (73, 32), "inotify_init": (253, None), "inotify_init1": (294, 26),
             "inotify_add_watch": (254, 27), "cachestat": (451, 451), "bind": (49, 200),
             "connect": (42, 203), "listen": (50, 201)}  # fmt: skip
_NEW_PROCESS = {"fork": (57, None), "vfork": (58, None), "execve": (59, 221),
                "execveat": (322, 281)}  # fmt: skip
# Landlock does not cover these; without a private root they reach other files of the same user.
_METADATA = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463),
    "removexattrat": (466, 466), "file_setattr": (469, 469), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "truncate": (76, 45), "fallocate": (285, 47),
}  # fmt: skip
# Each takes the pid of any process of the same user.
_ON_OTHERS = {"tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
              "pidfd_send_signal": (424, 424), "setpriority": (141, 140),
              "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
              "sched_setaffinity": (203, 122), "sched_setattr": (314, 274),
              "ioprio_set": (251, 30)}  # fmt: skip
_KILL, _TGKILL, _FCNTL, _PRLIMIT = (62, 129), (234, 131), (72, 25), (302, 261)
_IOCTL, _PRCTL, _SOCKETPAIR, _SENDTO = (16, 29), (157, 167), (53, 199), (44, 206)
_CLONE, _CLONE3 = (56, 220), (435, 435)
_OPEN, _OPENAT, _OPENAT2 = (2, None), (257, 56), (437, 437)

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x4000_0000
_CLONE_THREAD = 0x0001_0000
_CLONE_NEW_ANY = 0x7E02_0080  # every CLONE_NEW* flag
_O_ACCMODE_TRUNC = os.O_ACCMODE | os.O_TRUNC
_AF_UNIX, _SOCK_STREAM, _SOCKET_KIND = 1, 1, 0xF
_SET_OWNER_OR_SIGNAL = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: a signal by another way
# F_GETLK, F_OFD_GETLK: locks that others hold on a file; F_SETLEASE, F_GETLEASE, F_NOTIFY: its use.
_SEE_OTHERS = (5, 36, 1024, 1025, 1026)
_SET_FLAGS = (0x4008_6602, 0x4004_6602, 0x401C_5820)  # FS_IOC_SETFLAGS, its 32 bits, FSSETXATTR
_OWNER_OR_TERMINAL = (0x8901, 0x8902, 0x5412, 0x541C)  # FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_PTRACER = 1, 4, 0x5961_6D61

_LD, _JEQ, _JGE, _AND, _RET = 0x20, 0x15, 0x35, 0x54, 0x06  # BPF: load word, jumps, mask, return
_ALLOW, _KILL_PROCESS = 0x7FFF_0000, 0x8000_0000
_ERRNO = 0x0005_0000
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data


@dataclass(frozen=True)
class FilterRules:
    """What one run may do.

    Attributes:
        new_processes: fork and exec are allowed (only where a pid namespace kills them all).
        private_pids: Signals need no filter, since nothing else can be named.
        private_root: Changing modes and times needs no filter, since no foreign file is writable.
    """

    new_processes: bool
    private_pids: bool
    private_root: bool


def is_supported() -> bool:
    """Tell whether this architecture has a table here."""
    return os.uname().machine in _AUDIT_ARCH


def assemble(rules: FilterRules, *, own_pid: int) -> bytes:
    """Return the BPF program (array of struct sock_filter) for a process with pid `own_pid`."""
    machine = os.uname().machine
    column = list(_AUDIT_ARCH).index(machine)
    denied = _DENIED | _CHANNELS
    if not rules.new_processes:
        denied |= _NEW_PROCESS
    if not rules.private_root:
        denied |= _METADATA
    if not rules.private_pids:
        denied |= _ON_OTHERS
    program = _Program(column)
    program.begin(_AUDIT_ARCH[machine])
    for numbers in denied.values():
        program.deny(numbers)
    program.deny(_CLONE3, error=errno.ENOSYS)  # flags are behind a pointer; glibc falls back
    program.deny(_OPENAT2, error=errno.ENOSYS)
    _deny_by_argument(program, rules, own_pid)
    program.add(_RET, _ALLOW)
    return program.code()


def _deny_by_argument(program: "_Program", rules: FilterRules, own_pid: int) -> None:
    program.deny_if_bits(_CLONE, argument=0, mask=_CLONE_NEW_ANY)
    if not rules.new_processes:
        program.deny_unless_bits(_CLONE, argument=0, mask=_CLONE_THREAD)
    # A file that Landlock lets be read must not be emptied on the way (kernels before 6.2).
    program.deny_if_equal(_OPEN, argument=1, mask=_O_ACCMODE_TRUNC, values=(os.O_TRUNC,))
    program.deny_if_equal(_OPENAT, argument=2, mask=_O_ACCMODE_TRUNC, values=(os.O_TRUNC,))
    program.deny_if_equal(_FCNTL, argument=1, mask=~0, values=(*_SET_OWNER_OR_SIGNAL, *_SEE_OTHERS))
    program.deny_if_equal(_IOCTL, argument=1, mask=~0, values=(*_OWNER_OR_TERMINAL, *_SET_FLAGS))
    own = (_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_PTRACER)
    program.deny_if_equal(_PRCTL, argument=0, mask=~0, values=own)
    program.deny_unless_equal(_SOCKETPAIR, argument=0, value=_AF_UNIX)
    program.deny_unless_equal(_SOCKETPAIR, argument=1, value=_SOCK_STREAM, mask=_SOCKET_KIND)
    program.deny_unless_equal(_SENDTO, argument=4, value=0)  # no address
    program.deny_unless_equal(_PRLIMIT, argument=0, value=0)
    if not rules.private_pids:
        program.deny_unless_equal(_KILL, argument=0, value=own_pid)
        program.deny_unless_equal(_TGKILL, argument=0, value=own_pid)


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

    def deny(self, numbers: tuple[int | None, int | None], *, error: int = errno.EPERM) -> None:
        number = numbers[self._column]
        if number is not None:
            self.add(_JEQ, number, jump_false=1)
            self.add(_RET, _ERRNO | error)

    def deny_if_bits(
        self, numbers: tuple[int | None, int | None], *, argument: int, mask: int
    ) -> None:
        """Deny when any bit of `mask` is set in the argument's low word."""
        self._check(numbers, argument, mask, [(_JEQ, 0, 1, 0), (_RET, _ERRNO | errno.EPERM, 0, 0)])

    def deny_unless_bits(
        self, numbers: tuple[int | None, int | None], *, argument: int, mask: int
    ) -> None:
        self._check(numbers, argument, mask, [(_JEQ, 0, 0, 1), (_RET, _ERRNO | errno.EPERM, 0, 0)])

    def deny_if_equal(
        self,
        numbers: tuple[int | None, int | None],
        *,
        argument: int,
        mask: int,
        values: tuple[int, ...],
    ) -> None:
        tests = []
        for value in values:
            tests += [(_JEQ, value, 0, 1), (_RET, _ERRNO | errno.EPERM, 0, 0)]
        self._check(numbers, argument, mask, tests)

    def deny_unless_equal(
        self,
        numbers: tuple[int | None, int | None],
        *,
        argument: int,
        value: int,
        mask: int = ~0,
    ) -> None:
        tests = [(_JEQ, value, 1, 0), (_RET, _ERRNO | errno.EPERM, 0, 0)]
        self._check(numbers, argument, mask, tests)

    def _check(
        self,
        numbers: tuple[int | None, int | None],
        argument: int,
        mask: int,
        tests: list[tuple[int, int, int, int]],
    ) -> None:
        number = numbers[self._column]
        if number is None:
            return
        self.add(_JEQ, number, jump_false=len(tests) + 3)
        self.add(_LD, _ARGS + 8 * argument)  # the low word: both machines are little-endian
        self.add(_AND, mask)
        for code, value, jump_true, jump_false in tests:
            self.add(code, value, jump_true=jump_true, jump_false=jump_false)
        self.add(_LD, _NR)
