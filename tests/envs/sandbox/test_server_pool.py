from concurrent.futures import ThreadPoolExecutor

import pytest

from envs.errors import InfrastructureError
from envs.records import Runtime
from envs.sandbox.interpreter import find_own_interpreter
from envs.sandbox.server_pool import ServerPool

HELLO = {"kind": "io", "files": {"m.py": "def one():\n    return 1\n"}, "calls": [["m:one", []]]}


def test_each_kind_has_one_server_however_many_ask(tmp_path):
    with ServerPool(tmp_path) as servers, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: servers.get("io", Runtime()), range(8)))
        assert len(set(map(id, found))) == 1
        assert servers.get("pytest", Runtime()) is not found[0]
        assert len(servers.values()) == 2


def test_the_least_used_server_is_closed_when_there_are_too_many(tmp_path):
    with ServerPool(tmp_path, max_servers=1) as servers:
        first = servers.get("io", Runtime())
        assert first.run_limited(HELLO, limit_s=5.0).ending == "exited"
        servers.get("pytest", Runtime())
        with pytest.raises(InfrastructureError, match="closed"):
            first.run_limited(HELLO, limit_s=5.0)
        assert servers.get("io", Runtime()) is not first


def test_interpreters_that_were_found_before_are_taken(tmp_path):
    runtime = Runtime(python="3.11")
    with ServerPool(tmp_path, interpreters={runtime: find_own_interpreter()}) as servers:
        assert servers.get("io", runtime).interpreter is find_own_interpreter()


def test_all_servers_end_with_the_pool(tmp_path):
    with ServerPool(tmp_path) as servers:
        server = servers.get("io", Runtime())
    with pytest.raises(InfrastructureError, match="closed"):
        server.run_limited(HELLO, limit_s=5.0)
