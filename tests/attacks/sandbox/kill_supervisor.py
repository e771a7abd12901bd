"""Sends signals to the processes above it, to their group and to everyone."""

GOES_FOR = "signals"
SOURCE = """
import os, signal

def attack(facts):
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    other = [facts["victim"], facts["supervisor"], facts["server"]]
    other = [pid for pid in other if pid != os.getpid()]
    attempts = {f"kill{pid}": lambda pid=pid: os.kill(pid, signal.SIGUSR1) for pid in other}
    attempts |= {f"group{pid}": lambda pid=pid: os.killpg(pid, signal.SIGUSR1) for pid in other}
    attempts |= {f"tgkill{pid}": lambda pid=pid: syscall(234, pid, pid, 10) for pid in other}
    attempts |= {f"tkill{pid}": lambda pid=pid: syscall(200, pid, 10) for pid in other}
    attempts |= {f"fd{pid}": lambda pid=pid: os.pidfd_open(pid) for pid in other}
    for pid in (os.getppid(), -1):
        if pid:
            attempts[f"parent{pid}"] = lambda pid=pid: os.kill(pid, signal.SIGUSR1)
    return tried(**attempts)
"""
