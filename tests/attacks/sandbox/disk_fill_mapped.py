"""Fills the disk with files in no folder, open nowhere, only mapped (mmap.mmap keeps them open)."""

GOES_FOR = "bomb"
ENDING = "overflow or exited"
DIES = True
SOURCE = """
import os, resource, time

def attack(facts):
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] > 2**24:
        return "succeeded: no limit, so the bomb was not set off"
    def fill():
        libc, taken = ctypes.CDLL(None, use_errno=True), 0
        while taken < 2**29:
            file = os.open("gone", os.O_CREAT | os.O_RDWR)
            os.unlink("gone")
            for _ in range(4):
                taken += os.write(file, bytes(2**20))
            libc.mmap(None, ctypes.c_size_t(4096), 1, 2, file, ctypes.c_long(0))
            os.close(file)
        time.sleep(5)  # within which the guard sees them
    return tried(mapped=fill)
"""
