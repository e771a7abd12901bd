"""Length-prefixed JSON over a socket, the only thing that trusted and untrusted sides exchange.

A frame is 4 bytes of length (big-endian), then that many bytes of UTF-8 JSON. Never pickle: the
bytes may come from a candidate. Standard library only.
"""

import json
import socket
import struct
import time
from typing import Any

MAX_FRAME_BYTES = 64 * 2**20  # a whole project's tree, with room


def send_frame(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send `message`, waiting as long as the socket's own timeout."""
    body = json.dumps(message).encode("ascii")
    channel.sendall(struct.pack(">I", len(body)) + body)


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
    (length,) = struct.unpack(">I", _receive(channel, 4, deadline))
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"frame of {length} bytes")
    message = json.loads(_receive(channel, length, deadline))
    if not isinstance(message, dict):
        raise ValueError("frame is no object")
    return message


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
