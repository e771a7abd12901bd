"""A port is one run's, and free again as soon as nobody listens there."""

import socket

import pytest

from envs.errors import UserError
from tests.train.servers.ports import free_port
from train.servers.port import check_free, claimed


def test_a_port_is_claimed_by_one_run_at_a_time() -> None:
    port = free_port(1)
    with claimed(port):
        with pytest.raises(UserError, match=rf"{port}.*rollouts\.port"), claimed(port, limit_s=0):
            pass
        with claimed(free_port(1)):
            pass
    with claimed(port, limit_s=0):
        pass


def test_a_port_on_which_somebody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match="in use"), claimed(port, limit_s=0):
            pass


def test_connections_of_a_server_that_has_ended_are_in_nobodys_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address):
            server.accept()[0].close()  # first: the kernel keeps its end for a minute
    with socket.socket() as probe, pytest.raises(OSError, match="in use"):
        probe.bind(address)
    check_free(address[1])
