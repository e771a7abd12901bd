"""The system calls that a run may make, by what they are for; all others do not exist for it.

Numbers are the kernel's (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h) on x86_64 and on aarch64, None where there is no such call. What
is here was found by running the suites of real projects under Python 3.11 to 3.13, and read in
those versions' sources: what they and glibc fall back from is left out (clone3, openat2, splice).

Left out on purpose, because by them one run could tell another something: flock, inotify,
cachestat, mincore, fadvise and sysinfo, which show locks, uses, pages and memory that all share.

Tests: tests/envs/sandbox/kernel/test_seccomp.py.
"""

Numbers = tuple[int | None, int | None]
Calls = dict[str, Numbers]
FILES: Calls = {
    "read": (0, 63), "write": (1, 64), "openat": (257, 56), "close": (3, 57),
    "newfstatat": (262, 79), "lseek": (8, 62), "fstat": (5, 80), "stat": (4, None),
    "lstat": (6, None), "open": (2, None), "readv": (19, 65), "writev": (20, 66),
    "pread64": (17, 67), "pwrite64": (18, 68), "preadv": (295, 69), "pwritev": (296, 70),
    "preadv2": (327, 286), "pwritev2": (328, 287), "sendfile": (40, 71),
    "copy_file_range": (326, 285), "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46),
    "creat": (85, None), "close_range": (436, 436), "dup": (32, 23), "dup2": (33, None),
    "dup3": (292, 24), "pipe": (22, None), "pipe2": (293, 59), "fcntl": (72, 25), "ioctl": (16, 29),
    "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "getdents": (78, None),
    "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    "readlink": (89, None), "readlinkat": (267, 78), "umask": (95, 166), "getxattr": (191, 8),
    "lgetxattr": (192, 9), "fgetxattr": (193, 10), "listxattr": (194, 11), "llistxattr": (195, 12),
    "flistxattr": (196, 13), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37), "symlink": (88, None),
    "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33),
}  # fmt: skip
MEMORY: Calls = {
    "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216),
    "madvise": (28, 233), "msync": (26, 227), "brk": (12, 214),
}  # fmt: skip
TIME: Calls = {
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "alarm": (37, None), "getitimer": (36, 102), "setitimer": (38, 103), "getrusage": (98, 165),
}  # fmt: skip
SIGNALS: Calls = {
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132), "pause": (34, None), "restart_syscall": (219, 128),
    "signalfd": (282, None), "signalfd4": (289, 74), "kill": (62, 129), "tgkill": (234, 131),
}  # fmt: skip
PROCESS: Calls = {
    "futex": (202, 98), "clone": (56, 220), "wait4": (61, 260), "waitid": (247, 95),
    "exit": (60, 93), "exit_group": (231, 94), "set_robust_list": (273, 99),
    "set_tid_address": (218, 96), "rseq": (334, 293), "getpid": (39, 172), "getppid": (110, 173),
    "gettid": (186, 178), "getpgrp": (111, None), "getpgid": (121, 155), "setpgid": (109, 154),
    "getsid": (124, 156), "setsid": (112, 157), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
    "getpriority": (140, 141), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "getresuid": (118, 148), "getresgid": (120, 150),
    "getgroups": (115, 158), "arch_prctl": (158, None), "prctl": (157, 167),
    "prlimit64": (302, 261), "getrlimit": (97, 163), "setrlimit": (160, 164), "uname": (63, 160),
    "getrandom": (318, 278),
}  # fmt: skip
EVENTS: Calls = {
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "eventfd": (284, None),
    "eventfd2": (290, 19),
}  # fmt: skip
# Of sockets, only pairs.
PAIRS: Calls = {
    "socketpair": (53, 199), "sendto": (44, 206), "recvfrom": (45, 207), "sendmsg": (46, 211),
    "recvmsg": (47, 212), "shutdown": (48, 210), "getsockname": (51, 204), "getpeername": (52, 205),
    "getsockopt": (55, 209), "setsockopt": (54, 208),
}  # fmt: skip
NEW_PROCESS: Calls = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221),
}  # fmt: skip
# Landlock does not cover these; without a private root they reach other files of the same user.
METADATA: Calls = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "truncate": (76, 45),
    "fallocate": (285, 47),
}  # fmt: skip
GIVING_UP_ROOT: Calls = {
    "setgroups": (116, 159), "setresuid": (117, 147), "setresgid": (119, 149),
}  # fmt: skip
# What honest code tries in order to be told no: EPERM is the answer that it knows. A run of low
# priority, or on a core of its choice, could look as if the machine did not serve it.
REFUSED: Calls = {
    "socket": (41, 198), "bind": (49, 200), "connect": (42, 203), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "setpriority": (141, 140),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
}  # fmt: skip
