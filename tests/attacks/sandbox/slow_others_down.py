"""Takes the processor away from the processes above it."""

GOES_FOR = "signals"
SOURCE = """
import os

def attack(facts):
    pid = facts["victim"]
    return tried(nice=lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
                 affinity=lambda: os.sched_setaffinity(pid, {0}),
                 idle=lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
                 limits=lambda: syscall(302, pid, 0, (ctypes.c_ulong * 2)(1, 1), 0),
                 swap=lambda: syscall(440, 3, 0, 0, 21, 0))
"""
