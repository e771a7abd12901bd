"""Changes flags and attributes of files by newer calls, and lets others look into it."""

GOES_FOR = "writing"
SOURCE = """
import fcntl, os, struct

def attack(facts):
    shared = os.open(os.__file__, os.O_RDONLY)
    prctl = 157 if os.uname().machine == "x86_64" else 167
    flags = struct.pack("l", 0x10)
    name, value = ctypes.create_string_buffer(b"user.x"), ctypes.create_string_buffer(b"x")
    path = ctypes.create_string_buffer(facts["secret"].encode())
    given = struct.pack("QII", ctypes.addressof(value), 1, 0)
    size = len(given)
    given = ctypes.create_string_buffer(given, size)
    return tried(flags=lambda: fcntl.ioctl(shared, 0x40086602, flags),
                 attribute=lambda: syscall(463, -100, path, 0, name, given, size),
                 removed=lambda: syscall(466, -100, path, 0, name),
                 dumpable=lambda: syscall(prctl, 4, 1, 0, 0, 0))
"""
