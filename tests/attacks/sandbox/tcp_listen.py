"""Listens on a TCP port for someone outside to call."""

GOES_FOR = "network"
SOURCE = """
import socket

def attack(facts):
    return tried(listen=lambda: socket.create_server(("127.0.0.1", 0)))
"""
