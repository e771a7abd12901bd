"""Connects to a TCP listener of the machine."""

GOES_FOR = "network"
SOURCE = """
import socket

def attack(facts):
    def call(host):
        socket.create_connection((host, facts["tcp"]), timeout=1).sendall(b"x")
    return tried(localhost=lambda: call("127.0.0.1"), everywhere=lambda: call("0.0.0.0"))
"""
