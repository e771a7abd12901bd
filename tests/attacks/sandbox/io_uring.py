"""Makes sockets and opens files through io_uring, past a filter of system calls."""

GOES_FOR = "network"
SOURCE = """
def attack(facts):
    ring = ctypes.create_string_buffer(256)
    return tried(setup=lambda: syscall(425, 8, ring))
"""
