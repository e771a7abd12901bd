"""HTTP as a run speaks it, to vLLM servers and to chat endpoints alike.

Awaited, with a limit for each request and for the size of its answer. No redirect is followed: what
is sent, a key above all, is for the host that was named. Proxies of the environment are used for
other machines at most, never for this one. What may pass is sent again after growing pauses, up to
a ceiling (`send_again`); how fast requests are sent is a `Pace`.
"""

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

_CONNECT_LIMIT_S = 5.0
_MOST_BYTES = 64 << 20  # of an answer; a sample of 32k tokens with its prompt has under 1 MB
_PASSING = (408, 409, 425, 429)  # and all from 500
_SAID = 300  # most characters of what a server says that are told

Result = TypeVar("Result")


class Unanswered(Exception):
    """A request got no answer, or one that is none; it may get one if it is sent again.

    Attributes:
        pause_s: How long the server asks to wait.
    """

    def __init__(self, cause: str, *, pause_s: float = 0.0) -> None:
        super().__init__(cause)
        self.pause_s = pause_s


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def is_fine(self) -> bool:
        """Whether it is what was asked for."""
        return 200 <= self.status < 300

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status in _PASSING or self.status >= 500

    @property
    def said(self) -> str:
        """Its text on one line, cut; of a redirect, where to."""
        text = " ".join(self.body[:4000].decode("utf-8", "replace").split())
        if 300 <= self.status < 400:
            text = f"a redirect to {self.headers.get('location', 'nowhere')}, not followed. {text}"
        return text[:_SAID]

    @property
    def pause_s(self) -> float:
        """Seconds that it asks to wait; a date counts as nothing."""
        asked = self.headers.get("retry-after", "")
        return float(asked) if asked.isdecimal() else 0.0


@dataclass(frozen=True)
class Patience:
    """How often a request is sent, and how long it rests in between.

    Attributes:
        num_tries: In all.
        first_pause_s: Doubled each time.
        longest_pause_s: Also where a server asks for more.
    """

    num_tries: int = 6
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0


@dataclass
class Pace:
    """Lets requests go one after another, so many a minute, and all wait where a server asks to.

    Attributes:
        per_minute: None lets them go at once.
    """

    per_minute: float | None = None
    _next_s: float = field(default=0.0, repr=False)  # of the clock that never goes back

    async def wait(self) -> None:
        """Wait for a turn."""
        now = time.monotonic()
        turn = max(now, self._next_s)
        if self.per_minute is not None:
            self._next_s = turn + 60.0 / self.per_minute
        if turn > now:
            await asyncio.sleep(turn - now)

    def hold(self, seconds: float) -> None:
        """Let nothing go for some time."""
        self._next_s = max(self._next_s, time.monotonic() + seconds)


def is_loopback(url: str) -> bool:
    """Tell whether a URL is of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def new_client(
    *, max_connections: int, limit_s: float, proxies: bool = False
) -> httpx2.AsyncClient:
    """Return a client for one event loop.

    Args:
        max_connections: More requests wait for one.
        limit_s: Of each wait for a part of an answer.
        proxies: Use those of the environment, and its certificates.
    """
    limits = httpx2.Limits(max_connections=max_connections, max_keepalive_connections=None)
    timeout = httpx2.Timeout(limit_s, connect=_CONNECT_LIMIT_S, pool=None)
    return httpx2.AsyncClient(
        limits=limits, timeout=timeout, trust_env=proxies, follow_redirects=False
    )


async def post(
    client: httpx2.AsyncClient,
    url: str,
    body: Mapping[str, Any],
    *,
    limit_s: float,
    key: str | None = None,
) -> Reply:
    """Send an object, and return the answer, whatever its status.

    Args:
        client: Of the running event loop.
        url: Where.
        body: The object.
        limit_s: Of the whole request.
        key: Sent as a bearer token.

    Raises:
        Unanswered: No connection, or no whole answer in time, or one that is too long.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with asyncio.timeout(limit_s):
            async with client.stream("POST", url, json=body, headers=headers) as response:
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    size += len(part)
                    if size > _MOST_BYTES:
                        raise Unanswered(f"an answer of more than {_MOST_BYTES >> 20} MB")
                    parts.append(part)
                return Reply(response.status_code, b"".join(parts), response.headers)
    except (httpx2.RequestError, TimeoutError) as error:
        raise Unanswered(describe(error)) from error


def ask(
    method: str,
    url: str,
    *,
    limit_s: float,
    key: str | None = None,
    proxies: bool = False,
    **options: Any,
) -> Reply:
    """Send one request, and wait for its answer; where no event loop runs.

    Raises:
        Unanswered: There is none.
    """
    timeout = httpx2.Timeout(limit_s, connect=_CONNECT_LIMIT_S)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        response = httpx2.request(
            method,
            url,
            timeout=timeout,
            trust_env=proxies,
            follow_redirects=False,
            headers=headers,
            **options,
        )
    except httpx2.RequestError as error:
        raise Unanswered(describe(error)) from error
    return Reply(response.status_code, response.content, response.headers)


async def send_again(
    send: Callable[[], Awaitable[Result]],
    *,
    patience: Patience,
    pace: Pace,
    on_retry: Callable[[], None] = lambda: None,
) -> Result:
    """Send a request until it is answered.

    Raises:
        Unanswered: It was not, as often as `patience` says; with the last cause.
    """
    pause_s = patience.first_pause_s
    for number in range(1, patience.num_tries + 1):
        await pace.wait()
        try:
            return await send()
        except Unanswered as error:
            if number == patience.num_tries:
                raise
            if error.pause_s:
                pace.hold(min(patience.longest_pause_s, error.pause_s))
        on_retry()
        await asyncio.sleep(pause_s)
        pause_s = min(patience.longest_pause_s, 2 * pause_s)
    raise AssertionError("unreachable")


def describe(error: Exception) -> str:
    """Return what went wrong, on one line."""
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
