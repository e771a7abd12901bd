"""Leaves its root with chroot, pivot_root, a new mount or namespaces of its own."""

GOES_FOR = "reading"
SOURCE = """
import os

def attack(facts):
    os.mkdir("x")
    libc = ctypes.CDLL(None, use_errno=True)
    return tried(chroot=lambda: os.chroot("x"),
                 mount=lambda: syscall(165, b"x", b"x", b"tmpfs", 0, 0),
                 unshare=lambda: syscall(272, 0x10000000), newns=lambda: syscall(272, 0x20000),
                 setns=lambda: syscall(308, 3, 0), umount=lambda: syscall(166, b"/box", 2),
                 clone=lambda: syscall(56, 0x10000000 | 17, 0, 0, 0, 0),
                 clone3=lambda: syscall(435, ctypes.create_string_buffer(88), 88),
                 fsopen=lambda: syscall(430, b"tmpfs", 0), tree=lambda: syscall(428, -100, b"/", 1))
"""
