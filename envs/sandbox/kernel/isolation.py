"""The kernel's side of the sandbox: namespaces, private root, Landlock, limits, privileges.

Each function applies one layer to the calling process and raises OSError where the machine refuses
it; `envs/sandbox/child_main.py` puts them in order and `envs/sandbox/levels.py` finds out which
ones there are. Python 3.11 has none of these calls, hence ctypes. Standard library only.

Not covered: quotas of a disk outside the private root (the guard watches its use instead).
Tests: tests/envs/sandbox/test_levels.py.
"""

import contextlib
import ctypes
import errno
import os
import resource
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000

SCRATCH_DIR = Path("/box")  # where a run's tmpfs is mounted in the private root
SCRATCH_BYTES = 64 * 2**20
SCRATCH_FILES = 20_000
MAX_PROCESSES = 32  # per run, threads included
MAX_PROCESSES_UNGROUPED = 8  # where memory is bounded for each process only
MAX_OPEN_FILES, MAX_OPEN_FILES_ON_DISK = 256, 64
MAX_FILE_BYTES, MAX_FILE_BYTES_ON_DISK = 16 * 2**20, 4 * 2**20

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_NOATIME = 1, 2, 4, 8, 1024
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
# Flags of a bind's source that a user namespace may not clear: ST_* and MS_* agree on these.
_LOCKED = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_CAPABILITY_VERSION_3 = 0x2008_0522

# Landlock rights (include/uapi/linux/landlock.h)
_READ_RIGHTS, _READ_DIRECTORY = 0b1101, 0b1000  # execute, read file, read directory
_FILE_RIGHTS = 0b0111 | 1 << 14 | 1 << 15  # those that a rule on a file may name
_RIGHTS_BY_ABI = {1: 2**13 - 1, 2: 2**14 - 1, 3: 2**15 - 1, 4: 2**15 - 1, 5: 2**16 - 1}

_SYSTEM_LINKS = ("/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin")
SYSTEM_PATHS = ("/usr", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def unshare(flags: int) -> None:
    """Leave the given namespaces for new ones; a new pid namespace holds the next child only."""
    _check(_libc.unshare(flags), "unshare")


def enter_namespaces() -> None:
    """Enter fresh mount, network, ipc and uts namespaces, through a user namespace if need be."""
    flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    uid, gid = os.getuid(), os.getgid()
    try:
        unshare(flags)
    except PermissionError:
        unshare(flags | CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny", "ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", "ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", "ascii")
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)


def enter_private_root(
    mount_point: Path, *, readable: list[str], hidden: Sequence[str] = ()
) -> None:
    """Make a tmpfs the root of this mount namespace, holding `readable` and /usr, read-only.

    Args:
        mount_point: An empty directory to mount on; nobody outside the namespace sees the mount.
        readable: Absolute paths bound at the same place.
        hidden: Folders that are empty but for what `readable` names inside them.
    """
    _mount("root", str(mount_point), kind="tmpfs", flags=_MS_NOSUID, data="mode=0755,size=1m")
    for name in _SYSTEM_LINKS:
        if Path(name).is_symlink():
            (mount_point / name[1:]).symlink_to(Path(name).readlink())
    inside = [name for name in readable if any(Path(name).is_relative_to(each) for each in hidden)]
    outside = [name for name in readable if name not in inside]
    for name in _outermost([*SYSTEM_PATHS, *_SYSTEM_LINKS, *outside]):
        if Path(name).exists() and not (mount_point / name[1:]).is_symlink():
            _bind(name, mount_point / name[1:])
    for name in _outermost(list(hidden)):
        if (mount_point / name[1:]).is_dir():
            data = "mode=0755,size=1m"
            _mount("hidden", str(mount_point / name[1:]), kind="tmpfs", flags=_MS_NOSUID, data=data)
    for name in inside:
        _bind(name, mount_point / name[1:])
    for name in _outermost(list(hidden)):
        if (mount_point / name[1:]).is_mount():
            flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID
            _mount("none", str(mount_point / name[1:]), flags=flags)
    for name in DEVICES:
        _bind(name, mount_point / name[1:], read_only=False)
    (mount_point / SCRATCH_DIR.relative_to("/")).mkdir(mode=0o755)
    os.chdir(mount_point)
    pivot_root = _SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(pivot_root, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")
    _mount("none", "/", flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID)


def enter_private_run(*, uid: int, gid: int) -> None:
    """Enter a namespace of mounts with an empty tmpfs at `SCRATCH_DIR`, and one of no network.

    The next child is pid 1 of its own.
    """
    unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET)
    data = f"size={SCRATCH_BYTES},nr_inodes={SCRATCH_FILES},mode=0700,uid={uid},gid={gid}"
    _mount("box", str(SCRATCH_DIR), kind="tmpfs", flags=_MS_NOSUID | _MS_NODEV, data=data)


def landlock_abi() -> int:
    """Return the ABI version of Landlock, 0 if the kernel has none or has it switched off."""
    return int(max(0, _libc.syscall(_SYS_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)))


def cut_out_hidden(readable: list[str], hidden: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what of `readable` and the system stays when `hidden` folders are cut out.

    Landlock only allows, so a folder around a hidden one gives way to what else is in it.

    Returns:
        Paths to read with all below them, and folders of which the names are to be listed.
    """
    cut = {Path(name).resolve() for name in hidden}
    around = {parent for path in cut for parent in path.parents}
    names = [*SYSTEM_PATHS, *_SYSTEM_LINKS, *DEVICES, *readable]
    paths = [Path(name).resolve() for name in names if Path(name).exists()]
    whole: list[str] = []
    listed: list[str] = []
    while paths:
        path = paths.pop()
        if path in around:
            listed.append(str(path))
            # A link leads to what is allowed or denied at its own place.
            paths += [each for each in path.iterdir() if not each.is_symlink() and each not in cut]
        elif path not in cut:
            whole.append(str(path))
    return list(dict.fromkeys(whole)), list(dict.fromkeys(listed))


def restrict_files(*, readable: list[str], listable: list[str], writable: list[str]) -> None:
    """Deny every path but these through Landlock, and TCP and outside signals where it can.

    Needs no_new_privs. Paths that do not exist are passed over.
    """
    abi = landlock_abi()
    handled = _RIGHTS_BY_ABI[min(abi, 5)]
    tcp = 0b11 if abi >= 4 else 0  # bind, connect
    scoped = 0b11 if abi >= 6 else 0  # abstract sockets, signals
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    attributes = struct.pack("=QQQ", handled, tcp, scoped)[:size]
    ruleset = _check(
        _libc.syscall(_SYS_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0), "landlock"
    )
    for name in readable:
        _allow(ruleset, name, handled & _READ_RIGHTS)
    for name in listable:
        _allow(ruleset, name, handled & _READ_DIRECTORY)
    for name in [*writable, "/dev/null"]:
        _allow(ruleset, name, handled)
    _check(_libc.syscall(_SYS_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def set_limits(*, cpu_s: int, memory_bytes: int, max_processes: int | None, on_disk: bool) -> None:
    """Set hard resource limits of this process and its children (bytes, seconds, counts).

    Args:
        cpu_s: CPU seconds of each process.
        memory_bytes: Address space of each process.
        max_processes: Processes and threads of this user id, None for no limit.
        on_disk: Files are written to a disk that others share, not to a tmpfs of the run's own.
    """
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: MAX_FILE_BYTES_ON_DISK if on_disk else MAX_FILE_BYTES,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES_ON_DISK if on_disk else MAX_OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    if max_processes is not None:
        limits[resource.RLIMIT_NPROC] = max_processes
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def drop_privileges(uid: int | None, *, is_watched: bool = False) -> None:
    """Become `uid` for good (None: stay), without groups and capabilities, and never gain any.

    Args:
        uid: The user id.
        is_watched: Processes of the same user may look at what it does, if nothing else keeps them.
    """
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    else:
        for capability in range(64):
            with contextlib.suppress(OSError):  # past the last one, or none held
                _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")
        header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
        _check(_libc.capset(header, bytes(24)), "capset")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _check(_libc.prctl(_PR_SET_DUMPABLE, int(is_watched), 0, 0, 0), "dumpable")


def install_filter(code: bytes) -> None:
    """Install an assembled seccomp filter; needs no_new_privs."""
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0), "seccomp")


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "pdeathsig")


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be another user for a moment; for a process that is to die with its parent.

    Raises:
        OSError: It may not, or the parent has died.
    """
    before, parent = (os.geteuid(), os.getegid()), os.getppid()
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
        die_with_parent()  # the kernel forgets it when ids change
        if os.getppid() != parent:
            raise ProcessLookupError(errno.ESRCH, "the parent has died")


def _mount(source: str, target: str, *, kind: str = "", flags: int, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode() or None, flags, data.encode() or None
    )
    _check(result, f"mount {target}")


def _bind(source: str, target: Path, *, read_only: bool = True) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if Path(source).is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    _mount(source, str(target), flags=_MS_BIND | _MS_REC)
    flags = (os.statvfs(source).f_flag & _LOCKED) | _MS_NOSUID
    flags |= _MS_RDONLY if read_only else 0
    _mount("none", str(target), flags=_MS_REMOUNT | _MS_BIND | flags)


def _outermost(names: list[str]) -> list[str]:
    """Return the names that lie under no other one, without doubles."""
    paths = [Path(name) for name in dict.fromkeys(names)]
    return [str(path) for path in paths if not any(parent in paths for parent in path.parents)]


def _allow(ruleset: int, name: str, rights: int) -> None:
    try:
        fd = os.open(name, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not Path(name).is_dir():
        rights &= _FILE_RIGHTS
    rule = struct.pack("=Qi", rights, fd)
    _check(_libc.syscall(_SYS_LANDLOCK_ADD, ruleset, 1, rule, 0), f"landlock rule {name}")
    os.close(fd)
