"""Sends to sockets of the host with one end of a pair."""

GOES_FOR = "network"
SOURCE = """
import socket

def attack(facts):
    def datagrams():
        one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.sendto(b"x", facts["abstract"])
    def packets():
        socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stream, _ = socket.socketpair()
    return tried(datagrams=datagrams, packets=packets,
                 bound=lambda: stream.bind("\\0tightrope-own"),
                 connected=lambda: stream.connect(facts["abstract"]),
                 addressed=lambda: stream.sendto(b"x", facts["abstract"]))
"""
