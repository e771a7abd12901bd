"""A filter that denies what default containers deny: namespaces and mounts."""

import errno
import os

from envs.sandbox.kernel import seccomp
from envs.sandbox.kernel.system_calls import PROCESS

# Numbers on (x86_64, aarch64), as in envs/sandbox/kernel/system_calls.py.
_NAMESPACES = {
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "move_mount": (429, 429), "fsopen": (430, 430),
}  # fmt: skip
_CLONE3 = (435, 435)


def assemble_container() -> bytes:
    """Return it as `envs.sandbox.kernel.seccomp.assemble` returns its own."""
    machine = os.uname().machine
    program = seccomp._Program(list(seccomp._AUDIT_ARCH).index(machine))
    program.begin(seccomp._AUDIT_ARCH[machine])
    for numbers in _NAMESPACES.values():
        program.end(numbers, seccomp._ERRNO | errno.EPERM)
    program.end(_CLONE3, seccomp._ERRNO | errno.ENOSYS)
    program.deny_if_bits(PROCESS["clone"], argument=0, mask=seccomp._CLONE_NEW_ANY)
    program.add(seccomp._RET, seccomp._ALLOW)
    return program.code()
