"""Lines are taken in the order of their tickets, each ticket once."""

import os
from collections.abc import Iterator

import pytest

from envs.sandbox.framing import MOST_TICKETS, TICKET_BYTES, TicketPipe


@pytest.fixture
def ends() -> Iterator[tuple[TicketPipe, int]]:
    """The trusted end, and the descriptor from which tickets are taken."""
    reader, writer = os.pipe()
    yield TicketPipe(writer), reader
    os.close(reader)
    os.close(writer)


def test_any_number_of_lines_is_taken_each_with_its_ticket(ends: tuple[TicketPipe, int]) -> None:
    pipe, tickets = ends
    for number in range(3 * MOST_TICKETS):
        line = os.read(tickets, TICKET_BYTES) + b"line %d\n" % number
        assert pipe.take(line[:number]) and pipe.take(line[number:])
    assert pipe.lines.split(b"\n")[::600] == [b"line 0", b"line 600", b"line 1200"]


@pytest.mark.parametrize("kind", ["none", "junk", "twice", "later", "half"])
def test_the_first_line_without_its_ticket_ends_it(ends: tuple[TicketPipe, int], kind: str) -> None:
    pipe, tickets = ends
    first, second, third = (os.read(tickets, TICKET_BYTES) for _ in range(3))
    assert pipe.take(first + b"one\n")
    strange = {
        "none": b"two\n",
        "junk": b"[" * 100,  # a line that never ends
        "twice": first + b"two\n",
        "later": third + b"two\n" + second,
        "half": second[:-1] + b"\n",
    }
    assert not pipe.take(strange[kind])
    assert bytes(pipe.lines) == b"one\n"


def test_writing_tickets_never_waits_nor_fails_where_nobody_takes_any() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert TicketPipe(writer).take(b"")
    os.close(writer)
