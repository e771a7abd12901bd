"""Leaves shared memory, semaphores and queues behind that outlive it."""

GOES_FOR = "leftovers"
SOURCE = """
def attack(facts):
    return tried(shm=lambda: syscall(29, 4711, 2**20, 0o1666),
                 sem=lambda: syscall(64, 4711, 1, 0o1666), msg=lambda: syscall(68, 4711, 0o1666),
                 queue=lambda: syscall(240, b"x", 0o102, 0o600, 0),
                 key=lambda: syscall(248, b"user", b"x", b"x", 1, -4))
"""
