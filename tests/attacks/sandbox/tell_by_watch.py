"""Tells a run beside it something by opening a file that the other one watches."""

GOES_FOR = "other runs"
SOURCE = """
import fcntl, os

def attack(facts):
    folder = os.path.dirname(os.__file__)
    shared, directory = os.open(os.__file__, os.O_RDONLY), os.open(folder, os.O_RDONLY)
    def watch():
        handle = ctypes.CDLL(None, use_errno=True).inotify_init1(0)
        if handle < 0:
            raise OSError(ctypes.get_errno(), "refused")
    return tried(inotify=watch, lease=lambda: fcntl.fcntl(shared, 1024, fcntl.F_RDLCK),
                 leased=lambda: fcntl.fcntl(shared, 1025),
                 folder=lambda: fcntl.fcntl(directory, 1026, 0x80000001))
"""
