"""Requests go to the host that was named, within their limits, and no more often than agreed."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from train.servers import transport
from train.servers.transport import (
    Pace,
    Patience,
    Reply,
    Unanswered,
    ask,
    is_loopback,
    new_client,
    post,
    send_again,
)


@dataclass
class Odd:
    """A server that does one odd thing, and remembers what it was asked."""

    oddity: str = ""
    elsewhere: str = ""
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(odd: Odd) -> Iterator[Odd]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            odd.paths.append(self.path)
            odd.keys.append(self.headers["Authorization"])
            if odd.oddity == "redirect":
                self.send_response(307)
                self.send_header("Location", odd.elsewhere)
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif odd.oddity == "drips":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            elif odd.oddity == "breaks off":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"x")
            else:
                self.send_response(200)
                self.send_header("Content-Length", "2000")
                self.end_headers()
                self.wfile.write(b"x" * 2000)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    odd.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield odd
    finally:
        http.shutdown()
        http.server_close()


def send(url: str, *, limit_s: float = 10.0) -> Reply:
    async def run() -> Reply:
        async with new_client(max_connections=1, limit_s=limit_s) as client:
            return await post(client, url, {}, limit_s=limit_s, key="secret")

    return asyncio.run(run())


def test_a_redirect_is_told_and_not_followed() -> None:
    with serve(Odd()) as other, serve(Odd("redirect", elsewhere=other.url)) as odd:
        for reply in (send(odd.url), ask("POST", odd.url, limit_s=10, key="secret")):
            assert reply.status == 307 and not reply.is_fine and not reply.may_pass
            assert other.url in reply.said
        assert other.paths == [] and odd.keys == ["Bearer secret"] * 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:8000", True),
        ("http://localhost:8000/v1", True),
        ("http://localhost.evil.org/v1", False),
        ("https://api.example.com/v1", False),
        ("http://10.0.0.1", False),
        ("http://node7:8100", False),
    ],
)
def test_this_machine_is_told_from_others(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_proxies_of_the_environment_are_for_other_machines_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serve(Odd()) as proxy, serve(Odd()) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert send(server.url).is_fine
        assert ask("GET", server.url, limit_s=10, proxies=not is_loopback(server.url)).is_fine
        assert proxy.paths == []
        assert ask("GET", "http://teacher.invalid/v1", limit_s=10, proxies=True).is_fine
        assert proxy.paths == ["http://teacher.invalid/v1"]


def test_an_answer_that_drips_has_its_time_and_no_more() -> None:
    with serve(Odd("drips")) as odd:
        began = time.monotonic()
        with pytest.raises(Unanswered, match="TimeoutError"):
            send(odd.url, limit_s=0.5)
        assert time.monotonic() - began < 3


def test_half_an_answer_and_too_much_of_one_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Odd("breaks off")) as odd, pytest.raises(Unanswered, match="RemoteProtocolError"):
        send(odd.url)
    monkeypatch.setattr(transport, "_MOST_BYTES", 1000)
    with serve(Odd()) as odd, pytest.raises(Unanswered, match="an answer of more than"):
        send(odd.url)


def test_what_fails_is_sent_as_often_as_agreed_and_after_growing_pauses() -> None:
    times: list[float] = []

    async def fail() -> None:
        times.append(time.monotonic())
        raise Unanswered("not now")

    patience = Patience(num_tries=4, first_pause_s=0.05, longest_pause_s=0.1)
    with pytest.raises(Unanswered, match="not now"):
        asyncio.run(send_again(fail, patience=patience, pace=Pace()))
    pauses = [after - before for before, after in pairwise(times)]
    assert len(times) == 4 and pauses[0] >= 0.049 and min(pauses[1:]) >= 0.099


def test_requests_of_many_keep_one_pace_and_a_long_pause_has_a_ceiling() -> None:
    sent: list[float] = []

    async def answer() -> None:
        sent.append(time.monotonic())
        if len(sent) == 1:
            raise Unanswered("too many", pause_s=3600)

    async def run() -> None:
        pace, patience = Pace(per_minute=1200), Patience(first_pause_s=0.0, longest_pause_s=0.5)
        work = (send_again(answer, patience=patience, pace=pace) for _ in range(5))
        await asyncio.gather(*work)

    began = time.monotonic()
    asyncio.run(run())
    assert len(sent) == 6 and sent[-1] - sent[0] >= 0.5
    assert all(at - began >= 0.049 * place for place, at in enumerate(sent))
