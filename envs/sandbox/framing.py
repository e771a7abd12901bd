"""Length-prefixed frames over a socket: of JSON between trusted and untrusted sides.

A frame is 8 bytes of length (big-endian), then that many bytes. What may come from a candidate is
UTF-8 JSON, never pickle. Standard library only. Tests: tests/envs/sandbox/test_limits.py.
"""

import json
import socket
import struct
import time
from typing import Any

LENGTH = struct.Struct(">Q")
MAX_FRAME_BYTES = 64 * 2**20  # a whole project's tree, with room


def send_frame(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send `message`, waiting as long as the socket's own timeout."""
    send_bytes(channel, json.dumps(message).encode("ascii"))


def send_bytes(channel: socket.socket, body: bytes) -> None:
    """Send a frame of any bytes."""
    channel.sendall(LENGTH.pack(len(body)) + body)


def receive_frame(channel: socket.socket, *, deadline: float | None = None) -> dict[str, Any]:
    """Receive one message.

    Args:
        channel: A connected stream socket.
        deadline: Time of `time.monotonic()` after which to give up.

    Raises:
        EOFError: The other side is gone.
        TimeoutError: The deadline passed.
        ValueError: The frame is too long or no JSON object.
    """
    message = json.loads(receive_bytes(channel, deadline=deadline, most=MAX_FRAME_BYTES))
    if not isinstance(message, dict):
        raise ValueError("frame is no object")
    return message


def receive_bytes(
    channel: socket.socket, *, deadline: float | None = None, most: int | None = None
) -> bytes:
    """Receive a frame of at most `most` bytes; raises as `receive_frame` does."""
    (length,) = LENGTH.unpack(_receive(channel, LENGTH.size, deadline))
    if most is not None and length > most:
        raise ValueError(f"frame of {length} bytes")
    return _receive(channel, length, deadline)


def _receive(channel: socket.socket, length: int, deadline: float | None) -> bytes:
    chunks = []
    while length:
        if deadline is not None:
            channel.settimeout(max(1e-3, deadline - time.monotonic()))
        chunk = channel.recv(min(length, 2**18))
        if not chunk:
            raise EOFError("the other side closed the channel")
        chunks.append(chunk)
        length -= len(chunk)
    return b"".join(chunks)
