"""The routes of a vLLM server that a run needs; all that knows how they are spoken.

Written against vLLM 0.32, whose newer forms of them are the same: token ids in and out of
`/v1/completions`, adapters by name, sleep and wake (in its development mode). Every value of the
sampling is stated in each request, lest a model's own generation_config fills it in.

Requests of the trainer's main process (adapters, sleep) are synchronous; samples are awaited. None
is sent again here: what a lost server was sampling is played anew elsewhere.

Tests: tests/train/servers/test_client.py.
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from envs.errors import InfrastructureError
from envs.records import Ids, Sample
from train.servers import transport
from train.servers.transport import Reply, Unanswered

ANSWER_LIMIT_S = 1800.0  # for one sample, its wait for others of a full server included
_CONTROL_LIMIT_S = 120.0  # to load an adapter from slow storage, or move weights to the host
_LOOK_LIMIT_S = 5.0


class ServerLost(InfrastructureError):
    """A server does not answer any more: what it was sampling is lost."""

    def __init__(self, what: str) -> None:
        super().__init__(what, part="server")


@dataclass(frozen=True)
class Sampling:
    """How a policy samples; 0 is greedy.

    Attributes:
        stop_ids: A sample ends with the first of them, and with no other token.
        max_new_tokens: Most tokens of a sample.
    """

    stop_ids: Ids
    max_new_tokens: int
    temperature: float = 1.0


def new_client(*, max_connections: int) -> httpx2.AsyncClient:
    """Return a client for samples, for one event loop; proxies of the environment are not used."""
    return transport.new_client(max_connections=max_connections, limit_s=ANSWER_LIMIT_S)


async def complete(
    client: httpx2.AsyncClient,
    url: str,
    prompt_ids: Ids,
    *,
    model: str,
    sampling: Sampling,
    seed: int,
) -> Sample:
    """Return one sample under exactly `prompt_ids`.

    Args:
        client: Of the running event loop.
        url: The server's.
        prompt_ids: The prompt.
        model: Name of an adapter, or of the base.
        sampling: How.
        seed: Of this request alone; 63 bits.

    Raises:
        ServerLost: The server does not answer, or has not this adapter any more.
        InfrastructureError: It refused, or gave up on the request.
        RuntimeError: It answered otherwise than asked.
    """
    request = {
        "model": model,
        "prompt": list(prompt_ids),
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": list(sampling.stop_ids),
        "ignore_eos": True,  # a model's own ends of text would end a sample beside ours
        "seed": seed,
        "n": 1,
        "logprobs": 0,  # of the sampled token alone
        "return_token_ids": True,
        "add_special_tokens": False,
    }
    try:
        reply = await transport.post(
            client, f"{url}/v1/completions", request, limit_s=ANSWER_LIMIT_S
        )
    except Unanswered as error:
        raise ServerLost(f"{url} does not answer: {error}") from error
    if reply.status >= 500 or reply.status == httpx2.codes.NOT_FOUND:
        raise ServerLost(f"{url} failed: {reply.status} {reply.said}")
    if not reply.is_fine:
        text = f"{url} refused a request: {reply.status} {reply.said}"
        raise InfrastructureError(text, part="server")
    return read_sample(_read(reply.body, url=url)["choices"][0], prompt_ids)


def read_sample(choice: dict[str, Any], prompt_ids: Ids) -> Sample:
    """Return what a choice of `/v1/completions` says.

    Raises:
        InfrastructureError: The server gave up in the middle of the sample.
        RuntimeError: It read another prompt, or says nothing of a token.
    """
    if tuple(choice["prompt_token_ids"]) != prompt_ids:
        raise RuntimeError("a vLLM server read other tokens than it was sent")
    ids, logps = choice["token_ids"], choice["logprobs"]["token_logprobs"]
    finish = choice["finish_reason"]
    if finish not in ("stop", "length"):
        raise InfrastructureError(f"a vLLM server ended a sample: {finish}", part="server")
    if len(ids) != len(logps) or None in logps:
        raise RuntimeError(f"{len(ids)} tokens with {len(logps)} log-probs from a vLLM server")
    return Sample(token_ids=tuple(ids), sampling_logps=tuple(map(float, logps)), finish=finish)


async def has_adapter(
    client: httpx2.AsyncClient, url: str, name: str, *, base: str | None = None
) -> bool | None:
    """Tell whether a server serves an adapter.

    Returns:
        None if it does not answer as vLLM does, or serves another base than `base`.
    """
    try:
        response = await client.get(f"{url}/v1/models", timeout=_LOOK_LIMIT_S)
        models = _list_models(response.content, url=url) if response.is_success else {}
    except (httpx2.RequestError, ServerLost):
        return None
    return name in models if models and base in (None, *models) else None


async def load_again(client: httpx2.AsyncClient, url: str, name: str, folder: Path) -> None:
    """Ask a server that was started anew for an adapter; others may do so at the same time."""
    body = {"lora_name": name, "lora_path": str(folder)}
    with contextlib.suppress(Unanswered):  # whether it serves it is asked again
        await transport.post(client, f"{url}/v1/load_lora_adapter", body, limit_s=_CONTROL_LIMIT_S)


def is_ready(url: str) -> bool:
    """Tell whether a server answers."""
    try:
        return transport.ask("GET", f"{url}/health", limit_s=_LOOK_LIMIT_S).is_fine
    except Unanswered:
        return False


def describe_base(url: str) -> dict[str, Any]:
    """Return the base's entry of `/v1/models`, such as its `id` and `max_model_len`.

    Raises:
        ServerLost: The server does not answer, or not as vLLM does.
    """
    models = _list_models(_ask("GET", f"{url}/v1/models").body, url=url).values()
    found = next((each for each in models if not each.get("parent")), None)
    if found is None:
        raise ServerLost(f"{url} serves no base")
    return found


def check_base(url: str, name: str) -> None:
    """Make sure that the server of a base answers, and not another one that has its port.

    Raises:
        ServerLost: It does not.
    """
    if (found := describe_base(url)["id"]) != name:
        raise ServerLost(f"{url} is a server of {found} that this run has not started")


def list_adapters(url: str) -> list[str]:
    """Return the names of the adapters that a server has loaded.

    Raises:
        ServerLost: The server does not answer, or not as vLLM does.
    """
    models = _list_models(_ask("GET", f"{url}/v1/models").body, url=url)
    return [name for name, each in models.items() if each.get("parent")]


def load_adapter(url: str, name: str, folder: Path) -> str:
    """Load an adapter; returns why it was refused, '' if it was not."""
    body = {"lora_name": name, "lora_path": str(folder)}
    reply = _ask("POST", f"{url}/v1/load_lora_adapter", json=body)
    already = reply.status == 400 and "already" in reply.said
    return "" if reply.is_fine or already else f"{reply.status} {reply.said}"


def unload_adapter(url: str, name: str) -> None:
    """Unload an adapter, if it is there."""
    _ask("POST", f"{url}/v1/unload_lora_adapter", json={"lora_name": name})


def sleep(url: str) -> None:
    """Move the weights to host memory and drop the KV cache (level 1)."""
    _must(_ask("POST", f"{url}/sleep", params={"level": 1}), url)


def wake(url: str) -> None:
    """Undo `sleep`."""
    _must(_ask("POST", f"{url}/wake_up"), url)


def _ask(method: str, url: str, **options: Any) -> Reply:
    """Send one request of the main process.

    Raises:
        ServerLost: The server does not answer, or fails, as one does that is about to end.
    """
    try:
        reply = transport.ask(method, url, limit_s=_CONTROL_LIMIT_S, **options)
    except Unanswered as error:
        raise ServerLost(f"{url} does not answer: {error}") from error
    if reply.status >= 500:
        raise ServerLost(f"{url} failed: {reply.status} {reply.said}")
    return reply


def _must(reply: Reply, url: str) -> None:
    if not reply.is_fine:
        raise RuntimeError(f"{url} refused: {reply.status} {reply.said}")


def _list_models(body: bytes, *, url: str) -> dict[str, dict[str, Any]]:
    """Return the entries of `/v1/models` by their ids, an adapter's with its `parent`."""
    found = _read(body, url=url)
    try:
        return {str(each["id"]): dict(each) for each in found["data"]}
    except (LookupError, TypeError, ValueError) as error:
        raise ServerLost(f"{url} lists no models") from error


def _read(body: bytes, *, url: str) -> Any:
    """Return what an answer holds.

    Raises:
        ServerLost: It is no JSON: something else answers in the server's place.
    """
    try:
        return json.loads(body)
    except ValueError as error:
        raise ServerLost(f"{url} does not answer as vLLM does") from error
