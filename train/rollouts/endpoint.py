"""An OpenAI-compatible chat server as a policy: for evaluation, and for what a teacher would do.

    endpoint:http://127.0.0.1:8000/v1#Qwen/Qwen2.5-Coder-7B-Instruct

A view is cut at the marks of ChatML, in which it is rendered, into the messages that are sent; the
answer is encoded by our tokenizer, calls of the server's own form as the template writes them. So
window, records and metered tokens are those of our tokenizer, the same for all endpoints; what the
server itself counts (`usage`) is kept beside them. It tells no log-probs: such episodes can be
compared and shown, not trained on off-policy.

A request that fails in a way that may pass (no connection, a time-out, 429, 5xx) is sent again,
after a pause; an episode whose requests all failed is the machine's failure, played anew or marked
unscorable. What only the user can mend (a key, a name, a refused argument) ends the command.
"""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from threading import Thread
from typing import Any

from envs.errors import InfrastructureError, UserError
from envs.records import Ids, Sample, ToolCall, View
from envs.rendering import ChatFormat

REQUEST_LIMIT_S = 600.0  # a long turn of a large model on a busy server
_PROBE_LIMIT_S = 20.0
_NUM_TRIES = 6
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0  # doubled each time, or as the server asks
_PASSING = (408, 409, 425, 429)  # and all from 500
_MOST_BYTES = 16 << 20  # of an answer
_MARK = "<|im_start|>"
_ROLES = ("system", "user", "assistant")


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


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key is for this server alone."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse."""


@dataclass
class Endpoint:
    """One model of one server.

    Attributes:
        url: Up to and with the version: http://127.0.0.1:8000/v1.
        model: Its name there.
        key: Sent as a bearer token; None sends none.
        pause_s: Before the first request that is sent again.
        limit_s: Of one request.
        usage: Grows with each answer.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    pause_s: float = _FIRST_PAUSE_S
    limit_s: float = REQUEST_LIMIT_S
    usage: Usage = field(default_factory=Usage)

    def check(self) -> None:
        """Ask for the server's models, before anything is played; one without a list may do.

        Raises:
            UserError: It cannot be reached, refuses the key, or has no such model.
        """
        try:
            found = json.loads(self._send("models", None, limit_s=_PROBE_LIMIT_S))
            names = [each["id"] for each in found["data"]]
        except urllib.error.HTTPError as error:
            self._refuse(error, only=(401, 403))
            return
        except (OSError, HTTPException) as error:
            raise UserError(
                "an endpoint of evaluate.policies cannot be reached",
                got=f"{self.url}: {getattr(error, 'reason', None) or error}",
                remedy="start the server, or correct endpoint:URL#MODEL (URL ends in /v1)",
            ) from error
        except (ValueError, KeyError, TypeError):
            return
        if names and self.model not in names:
            raise UserError(
                "an endpoint of evaluate.policies has no such model",
                got=f"{self.model} at {self.url}",
                remedy=f"name one that it has: {', '.join(map(str, names[:8]))}",
            )

    async def complete(self, body: Mapping[str, Any]) -> Answer:
        """Return the answer to a request for a chat completion.

        Raises:
            InfrastructureError: It failed again and again.
            UserError: The server refuses it for good.
        """
        text = json.dumps({"model": self.model, **body}).encode()
        pause_s = self.pause_s
        for number in range(_NUM_TRIES):
            if number:
                self.usage.num_retries += 1
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
            try:
                send = partial(self._send, "chat/completions", text, limit_s=self.limit_s)
                return read_answer(await asyncio.wait_for(_in_thread(send), self.limit_s))
            except urllib.error.HTTPError as error:
                if error.code not in _PASSING and error.code < 500:
                    self._refuse(error)
                pause_s = max(pause_s, _read_pause(error))
                cause = f"HTTP {error.code}"
            except (OSError, HTTPException, ValueError) as error:
                cause = f"{type(error).__name__}: {error}"
        raise InfrastructureError(f"{self.url} failed {_NUM_TRIES} times: {cause}")

    def _send(self, path: str, body: bytes | None, *, limit_s: float) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url}/{path}", data=body, headers=headers)
        opener = urllib.request.build_opener(_StayHere)
        with opener.open(request, timeout=limit_s) as answer:
            return bytes(answer.read(_MOST_BYTES))

    def _refuse(self, error: urllib.error.HTTPError, *, only: Sequence[int] = ()) -> None:
        if only and error.code not in only:
            return
        said = " ".join(error.read(2000).decode("utf-8", "replace").split())[:300]
        remedy = "correct endpoint:URL#MODEL, or the settings that it names"
        if error.code in (401, 403):
            remedy = "export TIGHTROPE_ENDPOINT_KEY=... with a key that the server takes"
        raise UserError(
            "an endpoint of evaluate.policies refuses requests",
            got=f"HTTP {error.code} of {self.url} for {self.model}: {said}",
            remedy=remedy,
        ) from error


@dataclass(frozen=True)
class EndpointPolicy:
    """One episode's hold on an endpoint.

    Attributes:
        endpoint: Where it acts.
        chat: Encodes and decodes; its template is ChatML.
        max_new_tokens: Most tokens of a turn, by the server's count and by ours.
        temperature: 0 for the likeliest token.
        seed: Passed on; a server may ignore it.
    """

    endpoint: Endpoint
    chat: ChatFormat
    max_new_tokens: int
    temperature: float
    seed: int

    async def act(self, view: View) -> Sample:
        """Send the conversation, and return the answer in our tokens."""
        answer = await self.endpoint.complete(
            {
                "messages": split_messages(view.prompt_ids, self.chat),
                "max_tokens": self.max_new_tokens,
                "temperature": self.temperature,
                "top_p": 1.0,
                "seed": self.seed % 2**31,
            }
        )
        ids = encode_answer(answer, self.chat)
        is_cut = answer.is_cut or len(ids) > self.max_new_tokens
        ids = (ids[:-1] if is_cut else ids)[: self.max_new_tokens]
        self._count(answer, num_prompt=len(view.prompt_ids), num_new=len(ids))
        return Sample(
            token_ids=ids,
            sampling_logps=(0.0,) * len(ids),
            finish="length" if is_cut else "stop",
        )

    def _count(self, answer: Answer, *, num_prompt: int, num_new: int) -> None:
        usage, told = self.endpoint.usage, answer.prompt_tokens
        usage.num_requests += 1
        usage.num_uncounted += told is None
        usage.prompt_tokens += num_prompt if told is None else told
        usage.completion_tokens += num_new if told is None else answer.completion_tokens


def split_messages(prompt_ids: Ids, chat: ChatFormat) -> list[dict[str, str]]:
    """Return the messages of a view in ChatML, without the turn that it asks for.

    It is cut at the ids of the marks: a text that only looks like one stays inside its message.
    """
    messages, start = [], 0
    for place, token in enumerate(prompt_ids):
        if token == chat.eot_id:
            _, _, text = chat.decode(prompt_ids[start:place]).partition(_MARK)
            role, _, content = text.partition("\n")
            assert role in _ROLES, f"no view in ChatML: {text[:40]!r}"
            messages.append({"role": role, "content": content})
            start = place + 1
    return messages


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


def encode_answer(answer: Answer, chat: ChatFormat) -> Ids:
    """Return an answer as a model would have sampled it, end-of-turn included.

    Calls of the server's own form are written as the template would; arguments that are no object
    stay as they are, for the reader of calls to judge.
    """
    ids = chat.encode(answer.text)
    for name, text in answer.calls:
        try:
            arguments = json.loads(text)
        except ValueError:
            arguments = None
        if isinstance(arguments, dict):
            ids += chat.call_ids([ToolCall(name=name, arguments=arguments)])[:-1]
        else:
            ids += chat.encode(f'<tool_call>{{"name": "{name}", "arguments": {text}}}</tool_call>')
    return (*ids, chat.eot_id)


async def _in_thread(send: Callable[[], bytes]) -> bytes:
    """Run in a thread of its own, for which nobody waits at the end of the command."""
    loop = asyncio.get_running_loop()
    answered = loop.create_future()

    def settle(result: bytes | None, error: Exception | None) -> None:
        if not answered.done():
            answered.set_exception(error) if error else answered.set_result(result)

    def work() -> None:
        result, error = None, None
        try:
            result = send()
        except Exception as raised:
            error = raised
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    Thread(target=work, daemon=True).start()
    return bytes(await answered)


def _read_pause(error: urllib.error.HTTPError) -> float:
    """Return how many seconds a server asks to wait; a date counts as nothing."""
    asked = error.headers.get("Retry-After", "") if error.headers else ""
    return min(_LONGEST_PAUSE_S, float(asked)) if asked.isdigit() else 0.0
