"""Sends a datagram to a UDP listener of the machine."""

GOES_FOR = "network"
SOURCE = """
import socket

def attack(facts):
    def send(kind):
        socket.socket(socket.AF_INET, kind, 0).sendto(b"x", ("127.0.0.1", facts["udp"]))
    return tried(udp=lambda: send(socket.SOCK_DGRAM), raw=lambda: send(socket.SOCK_RAW))
"""
