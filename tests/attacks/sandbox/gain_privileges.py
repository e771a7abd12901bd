"""Becomes root again by setuid, capabilities or a setuid program."""

GOES_FOR = "privileges"
SOURCE = """
import os

def attack(facts):
    def program(name):
        if os.fork() == 0:
            os.execv(name, [name, "-n", "-c", "true"])
        if os.wait()[1] != 0:
            raise PermissionError(1, "refused")
    def root():
        os.setresuid(0, 0, 0)
        if facts["uid"] == 0:
            raise PermissionError(1, "was root before, without capabilities")
    return tried(setuid=root, groups=lambda: os.setgroups([0]), su=lambda: program("/bin/su"),
                 device=lambda: os.mknod("disk", 0o60600, os.makedev(254, 0)),
                 clock=lambda: syscall(227, 0, ctypes.create_string_buffer(16)),
                 name=lambda: syscall(170, b"x", 1), module=lambda: syscall(175, b"x", 1, b""),
                 keys=lambda: syscall(250, 0, -3, 1), bpf=lambda: syscall(321, 0, b"", 0))
"""
