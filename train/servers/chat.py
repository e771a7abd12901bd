"""The routes of an OpenAI-compatible chat server that a run needs: models, and chat completions.

What the server counts of each answer is added up in `Usage`: the bill. A request that fails in a
way that may pass (no connection, a time-out, 429, 5xx) is sent again, after a pause; what only the
user can mend (a key, a name, a refused argument) ends the command.

Tests: tests/train/rollouts/test_endpoint.py.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx2

from envs.errors import InfrastructureError, UserError
from train.config.policy_names import ENDPOINT, split_address
from train.servers.transport import (
    Pace,
    Patience,
    Reply,
    Unanswered,
    ask,
    is_loopback,
    post,
    send_again,
)

REQUEST_LIMIT_S = 600.0  # a long turn of a large model on a busy server
_PROBE_LIMIT_S = 20.0
_OF_ONE_REQUEST = (400, 413, 422)  # its content or its length; if the first is refused, all are


@dataclass
class Usage:
    """What an endpoint has cost so far, in its own tokens.

    Attributes:
        num_requests: Those that were answered.
        num_retries: Those that were sent again.
        num_uncounted: Answers without `usage`, counted by our tokenizer.
        prompt_tokens: Read by the server.
        completion_tokens: Written by it, thoughts included.
    """

    num_requests: int = 0
    num_retries: int = 0
    num_uncounted: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, other: "Usage") -> None:
        """Add what was used beside or before."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def describe(self) -> str:
        """Return it in words."""
        return (
            f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens in "
            f"{self.num_requests:,} requests, {self.num_retries:,} sent again"
            + (f"; {self.num_uncounted:,} counted by our tokenizer" if self.num_uncounted else "")
        )


@dataclass(frozen=True)
class Answer:
    """What a server wrote in one turn.

    Attributes:
        text: Its words.
        calls: Name and arguments (a JSON text) of calls in the server's own form.
        is_cut: It had more to say.
        prompt_tokens: By the server's count; None where it tells none.
        completion_tokens: Likewise.
    """

    text: str
    calls: tuple[tuple[str, str], ...]
    is_cut: bool
    prompt_tokens: int | None
    completion_tokens: int


@dataclass
class Endpoint:
    """One model of one server.

    Attributes:
        url: Up to and with the version: http://127.0.0.1:8000/v1.
        model: Its name there.
        key: Sent as a bearer token; None sends none.
        patience: With requests that fail.
        pace: How fast they are sent.
        limit_s: Of one request.
        usage: Grows with each answer.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    patience: Patience = field(default_factory=Patience)
    pace: Pace = field(default_factory=Pace)
    limit_s: float = REQUEST_LIMIT_S
    usage: Usage = field(default_factory=Usage)

    def check(self) -> None:
        """Ask for the server's models, before anything is played; one without a list may do.

        Raises:
            UserError: It cannot be reached, refuses the key, or has no such model.
        """
        names = list_models(self.url, key=self.key)
        if names and self.model not in names:
            raise UserError(
                "an endpoint has no such model",
                got=f"{self.model} at {self.url}",
                remedy=f"name one that it has: {', '.join(names[:8])}",
            )

    async def complete(self, client: httpx2.AsyncClient, body: Mapping[str, Any]) -> Answer:
        """Return the answer to a request for a chat completion.

        Raises:
            InfrastructureError: It failed again and again.
            UserError: The server refuses it for good.
        """
        asked, url = {"model": self.model, **body}, f"{self.url}/chat/completions"

        async def send() -> Answer:
            reply = await post(client, url, asked, limit_s=self.limit_s, key=self.key)
            if reply.may_pass:
                raise Unanswered(f"HTTP {reply.status} {reply.said}", pause_s=reply.pause_s)
            if not reply.is_fine:
                if reply.status in _OF_ONE_REQUEST and self.usage.num_requests:
                    text = f"{self.url} refused a request: HTTP {reply.status} {reply.said}"
                    raise InfrastructureError(text, part="server")
                raise _refusal(reply, self.url, self.model)
            try:
                return read_answer(reply.body)
            except ValueError as error:
                raise Unanswered(str(error)) from error

        def count() -> None:
            self.usage.num_retries += 1

        try:
            return await send_again(send, patience=self.patience, pace=self.pace, on_retry=count)
        except Unanswered as error:
            text = f"{self.url} failed {self.patience.num_tries} times: {error}"
            raise InfrastructureError(text, part="server") from error


def open_endpoint(address: str, *, key: str | None, per_minute: float | None = None) -> Endpoint:
    """Return the endpoint of URL#MODEL, or of URL where one model is served, after asking it.

    Raises:
        UserError: It cannot be asked, or has no such model, or several.
    """
    url, marked, model = address.removeprefix(ENDPOINT).partition("#")
    if not marked:
        names = list_models(url.rstrip("/"), key=key)
        if len(names) != 1:
            raise UserError(
                f"which model of {url}?",
                got=f"it has {', '.join(names[:8]) or 'told none'}",
                remedy=f"name one: {url}#MODEL",
            )
        model = names[0]
    try:
        url, model = split_address(f"{url}#{model}")
    except ValueError as error:
        raise UserError(str(error), got=address, remedy="URL ends in /v1, say") from error
    endpoint = Endpoint(url, model, key=key, pace=Pace(per_minute))
    endpoint.check()
    return endpoint


def list_models(url: str, *, key: str | None) -> list[str]:
    """Return the names of a server's models; none where it does not tell.

    Raises:
        UserError: It cannot be reached, or refuses the key.
    """
    proxies = not is_loopback(url)
    try:
        reply = ask("GET", f"{url}/models", limit_s=_PROBE_LIMIT_S, key=key, proxies=proxies)
    except Unanswered as error:
        raise UserError(
            "an endpoint cannot be reached",
            got=f"{url}: {error}",
            remedy="start the server, or correct URL#MODEL (URL ends in /v1)",
        ) from error
    if reply.status in (401, 403):
        raise _refusal(reply, url, "its list of models")
    try:
        return [str(each["id"]) for each in json.loads(reply.body)["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def read_answer(raw: bytes) -> Answer:
    """Read the body of an answer.

    Raises:
        ValueError: It is no chat completion.
    """
    found = json.loads(raw)
    try:
        choice, usage = found["choices"][0], found.get("usage") or {}
        message, told = choice["message"], usage.get("prompt_tokens")
        content, calls = message.get("content") or "", message.get("tool_calls") or ()
        if not isinstance(content, str):
            content = "".join(part.get("text") or "" for part in content)
        return Answer(
            text=content,
            calls=tuple(_read_call(each["function"]) for each in calls),
            is_cut=choice.get("finish_reason") == "length",
            prompt_tokens=None if told is None else int(told),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion: {raw[:200]!r}") from error


def _read_call(function: Mapping[str, Any]) -> tuple[str, str]:
    arguments = function.get("arguments") or "{}"
    return str(function["name"]), arguments if isinstance(arguments, str) else json.dumps(arguments)


def _refusal(reply: Reply, url: str, model: str) -> UserError:
    remedy = "correct URL#MODEL, or the settings that it names"
    if reply.status in (401, 403):
        remedy = "export TIGHTROPE_ENDPOINT_KEY=... with a key that the server takes"
    return UserError(
        "an endpoint refuses requests",
        got=f"HTTP {reply.status} of {url} for {model}: {reply.said}",
        remedy=remedy,
    )
