"""Talks to a service of the machine through its unix socket, named or abstract."""

GOES_FOR = "network"
SOURCE = """
import socket

def attack(facts):
    def call(address):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.connect(address)
            channel.sendall(b"x")
    return tried(named=lambda: call(facts["unix"]), abstract=lambda: call(facts["abstract"]))
"""
