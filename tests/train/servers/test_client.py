"""Token ids in and out of a server, exactly, and nothing left to its own defaults."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from envs.errors import InfrastructureError
from envs.records import Ids, Sample
from tests.train import tiny_policy
from tests.train.rollouts.turns import EOT, PROMPTS, check_logps
from tests.train.servers.stand_in import StandIn, serve_model
from train.servers import client
from train.servers.client import Sampling, ServerLost

NAME = "run-v0"
GREEDY = Sampling(stop_ids=(EOT,), max_new_tokens=12, temperature=0.0)
SAMPLED = Sampling(stop_ids=(EOT, 3), max_new_tokens=12)


def ask(url: str, prompt: Ids, *, sampling: Sampling = SAMPLED, seed: int = 7) -> Sample:
    async def run() -> Sample:
        async with client.new_client(max_connections=2) as connection:
            return await client.complete(
                connection, url, prompt, model=NAME, sampling=sampling, seed=seed
            )

    return asyncio.run(run())


def answering(**choice: Any) -> StandIn:
    """Return a server that samples 5 and 6 and says otherwise what is given."""
    server = StandIn(lambda name, body: ([5, 6], [-0.1, -0.2], "stop"))
    whole = server.answer

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, content = whole(path, body)
        if path == "/v1/completions" and status == 200:
            content["choices"][0] |= choice
        return status, content

    server.answer = answer  # type: ignore[method-assign]
    server.adapters[NAME] = "there"
    return server


def test_every_request_states_all_of_the_sampling() -> None:
    with answering().running() as server:
        sample = ask(server.url, (1, 2, 3))
    assert sample == Sample(token_ids=(5, 6), sampling_logps=(-0.1, -0.2), finish="stop")
    assert server.requests == [
        {
            "model": NAME,
            "prompt": [1, 2, 3],
            "max_tokens": 12,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": [EOT, 3],
            "ignore_eos": True,
            "seed": 7,
            "n": 1,
            "logprobs": 0,
            "return_token_ids": True,
            "add_special_tokens": False,
        }
    ]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"prompt_token_ids": [1, 2]}, "read other tokens"),
        ({"token_ids": [5]}, "1 tokens with 2 log-probs"),
        ({"logprobs": {"token_logprobs": [-0.1, None]}}, "2 tokens with 2 log-probs"),
    ],
    ids=["prompt", "tokens", "logprobs"],
)
def test_an_answer_to_something_else_is_a_bug(said: dict[str, Any], error: str) -> None:
    with answering(**said).running() as server, pytest.raises(RuntimeError, match=error):
        ask(server.url, (1, 2, 3))


def test_failures_of_a_server_are_the_machines() -> None:
    with answering(finish_reason="abort").running() as server:
        with pytest.raises(InfrastructureError, match="ended a sample: abort") as aborted:
            ask(server.url, (1, 2, 3))
        assert not isinstance(aborted.value, ServerLost) and aborted.value.part == "server"
        server.adapters.clear()
        with pytest.raises(ServerLost, match="failed: 404"):
            ask(server.url, (1, 2, 3))
    with pytest.raises(ServerLost, match="does not answer"):
        ask(server.url, (1, 2, 3))


def test_three_versions_come_and_go_and_each_answers_as_its_own_weights(tmp_path: Path) -> None:
    server = serve_model(tiny_policy.policy().unload())
    versions = {f"run-v{number}": tiny_policy.policy().eval() for number in range(3)}
    for name, model in versions.items():
        with torch.no_grad():
            for parameter in tiny_policy.trainable(model).values():
                parameter.normal_(std=0.2)
        model.save_pretrained(str(tmp_path / name))
    with server.running():
        before = ""
        for name, model in versions.items():
            assert client.load_adapter(server.url, name, tmp_path / name) == ""
            assert client.load_adapter(server.url, name, tmp_path / name) == "", "it is there"
            if before:
                client.unload_adapter(server.url, before)
            assert list(server.adapters) == [name]
            before = name

            async def check(name: str = name, model: Any = model) -> None:
                async with client.new_client(max_connections=2) as connection:
                    assert await client.has_adapter(connection, server.url, name)
                    for prompt in PROMPTS[:3]:
                        sample = await client.complete(
                            connection, server.url, prompt, model=name, sampling=GREEDY, seed=1
                        )
                        check_logps(model, prompt, sample)

            asyncio.run(check())
        refusal = client.load_adapter(server.url, "run-v9", tmp_path / "nowhere")
    assert "404" in refusal and "nowhere" in refusal
    assert [kind for kind, _ in server.events] == ["load", "load", "unload", "load", "unload"]


def test_a_server_says_what_it_takes_and_sleeps_when_it_is_told() -> None:
    with answering().running() as server:
        assert client.describe_base(server.url)["max_model_len"] == 4096
        assert client.is_ready(server.url)
        client.sleep(server.url)
        with pytest.raises(ServerLost, match="asleep"):
            ask(server.url, (1, 2, 3))
        client.wake(server.url)
        assert ask(server.url, (1, 2, 3)).token_ids == (5, 6)
    assert not client.is_ready(server.url)


def test_a_server_that_is_about_to_end_fails_whatever_it_is_asked(tmp_path: Path) -> None:
    with answering().running() as server:
        server.fails = ["/"]
        asked: list[Callable[[], Any]] = [
            partial(client.sleep, server.url),
            partial(client.wake, server.url),
            partial(client.load_adapter, server.url, "run-v1", tmp_path),
            partial(client.unload_adapter, server.url, NAME),
            partial(client.describe_base, server.url),
            partial(client.list_adapters, server.url),
            partial(ask, server.url, (1, 2)),
        ]
        for act in asked:
            with pytest.raises(ServerLost, match=r"500.*EngineDead"):
                act()
        assert not client.is_ready(server.url) and looked(server.url) is None


def looked(url: str, *, base: str | None = None) -> bool | None:
    async def run() -> bool | None:
        async with client.new_client(max_connections=2) as connection:
            return await client.has_adapter(connection, url, NAME, base=base)

    return asyncio.run(run())


def test_adapters_are_asked_of_the_server_of_a_base() -> None:
    with answering().running() as server:
        assert looked(server.url) and looked(server.url, base="base")
        assert looked(server.url, base="other-base") is None
        assert client.list_adapters(server.url) == [NAME]
        client.check_base(server.url, "base")
        with pytest.raises(ServerLost, match="a server of base that this run has not started"):
            client.check_base(server.url, "other-base")


@pytest.mark.parametrize("said", [[], None, "text", {}, {"data": [1]}, {"data": [{"name": "x"}]}])
def test_what_answers_otherwise_than_vllm_is_no_server(said: Any) -> None:
    server = answering()
    server.answer = lambda path, body: (200, said)  # type: ignore[method-assign]
    with server.running():
        assert looked(server.url) is None
        for act in (client.describe_base, client.list_adapters):
            with pytest.raises(ServerLost):
                act(server.url)
