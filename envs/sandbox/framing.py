"""How trusted and untrusted sides tell messages apart: frames over a socket, lines with tickets.

A frame is 8 bytes of length (big-endian), then that many bytes. What may come from a candidate is
UTF-8 JSON, never pickle. A line over a pipe may have to begin with a ticket: a random word that was
put into another pipe for it. Standard library only.
Tests: tests/envs/sandbox/test_limits.py, tests/envs/sandbox/test_framing.py.
"""

import contextlib
import json
import os
import socket
import struct
import time
from collections import deque
from typing import Any

LENGTH = struct.Struct(">Q")
MAX_FRAME_BYTES = 64 * 2**20  # a whole project's tree, with room
RESULTS_FD, TICKETS_FD = 3, 4  # of a candidate's process
TICKET_BYTES = 16
MOST_TICKETS = 512  # in the pipe at once: few enough to fit, so that writing them never waits


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


def write_whole(writer: int, data: bytes) -> None:
    """Write all of `data`, however much a pipe takes at once."""
    while data:
        data = data[os.write(writer, data) :]


class TicketPipe:
    """Puts tickets into a pipe, and takes lines only if each begins with the next of them.

    Whoever writes a line must have taken the ticket out before, so nothing that was written ahead,
    beside or twice is taken. Lines are kept without their tickets.

    Args:
        writer: Descriptor of the pipe for tickets.

    Attributes:
        lines: What was taken.
    """

    def __init__(self, writer: int) -> None:
        self.lines = bytearray()
        self._writer, self._tickets = writer, deque[bytes]()
        self._rest = bytearray()
        self._hand_out()

    def take(self, data: bytes) -> bool:
        """Take what came; False at the first line that has not its ticket, which ends the pipe."""
        self._rest += data
        if b"\n" in data:
            *lines, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                if not self._tickets or line[:TICKET_BYTES] != self._tickets.popleft():
                    return False
                self.lines += line[TICKET_BYTES:] + b"\n"
            self._hand_out()
        begun = bytes(self._rest[:TICKET_BYTES])
        return not begun or (bool(self._tickets) and self._tickets[0].startswith(begun))

    def _hand_out(self) -> None:
        missing = MOST_TICKETS - len(self._tickets)
        if missing >= MOST_TICKETS // 2:
            new = os.urandom(missing * TICKET_BYTES // 2).hex().encode("ascii")
            self._tickets += [
                new[at : at + TICKET_BYTES] for at in range(0, len(new), TICKET_BYTES)
            ]
            with contextlib.suppress(BrokenPipeError):  # its end, or that of the candidate
                write_whole(self._writer, new)
