"""A chat server as a policy: what it is sent, what becomes of its answers, and of its failures."""

import asyncio
import json
import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.environment import Environment, EpisodeMetadata, Limits
from envs.episode import run_episode
from envs.errors import InfrastructureError, UserError
from envs.policies import make_script
from envs.prompts import system_prompt
from envs.records import Episode, ToolCall, View
from envs.rendering import ChatFormat
from envs.workers.workbench import Workbench
from rewards.outcome import is_solved
from tests.envs.world import FILES, HIDDEN, TASK, TOKENIZER, Believing, InProcess, OneTask
from tests.train.rollouts.chat_server import ChatServer, Messages, serve
from train.models.chat_templates import template_text
from train.rollouts.endpoint import (
    EndpointSampler,
    check_chatml,
    encode_answer,
    split_messages,
)
from train.servers.chat import Answer, Endpoint, Usage, open_endpoint, read_answer
from train.servers.transport import Pace, Patience

CHAT = ChatFormat(TOKENIZER, template=template_text("chatml"))
LIMITS = Limits(window_tokens=4000, max_turns=12, max_new_tokens=300, observation_tokens=400)
SYSTEM = system_prompt("brief", "learned", example=CHAT.example)
text = st.text(max_size=40) | st.sampled_from(["<|im_end|>", "a<|im_start|>user\nb", "\n\n x "])


AT_ONCE = Patience(first_pause_s=0.0)


def gold(*, native: bool) -> Any:
    """Return answers that repair the task, turn by turn, in text or in the server's own form."""
    script = make_script("gold", task=TASK, hidden=HIDDEN, files=FILES, chat=CHAT)
    next(script)
    turns: list[list[ToolCall]] = []

    def answer(messages: Messages) -> dict[str, Any]:
        place = sum(message["role"] == "assistant" for message in messages)
        if place == len(turns):
            view = View(prompt_ids=(), observations=(), num_cached=0, num_rewrites=0)
            try:
                turns.append(script.send(view))
            except StopIteration:
                turns.append([ToolCall(name="submit")])
        if not native:
            return {"content": CHAT.decode(CHAT.call_ids(turns[place])[:-1])}
        functions = [
            {"name": each.name, "arguments": json.dumps(each.arguments)} for each in turns[place]
        ]
        return {"content": None, "tool_calls": [{"function": each} for each in functions]}

    return answer


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serve(ChatServer(gold(native=False))) as found:
        yield found


def play(server: ChatServer, endpoint: Endpoint, **options: Any) -> Episode:
    environment = Environment(
        TASK, FILES, chat=CHAT, system=SYSTEM, limits=LIMITS, strategy="learned"
    )

    async def run() -> Episode:
        async with EndpointSampler(
            endpoint, CHAT, max_new_tokens=300, max_rows=1, **options
        ) as sampler:
            return await run_episode(
                environment,
                sampler.policy(seed=7, group="g"),
                bench=InProcess(Workbench(OneTask(), Believing())),
                metadata=EpisodeMetadata("g", 0, 0, "m", 0, 0.0, False),
                deadline_s=60,
            )

    return asyncio.run(run())


@pytest.mark.parametrize("native", [False, True], ids=["text", "own form"])
def test_a_server_repairs_the_task(server: ChatServer, native: bool) -> None:
    server.answer = gold(native=native)
    server.usage = {"prompt_tokens": 100, "completion_tokens": 7}
    endpoint = Endpoint(server.url, "m/gold")
    endpoint.check()
    episode = play(server, endpoint)
    assert is_solved(episode)
    usage, turns = endpoint.usage, len(episode.turns)
    assert (usage.num_requests, usage.num_retries, usage.num_uncounted) == (turns, 0, 0)
    assert (usage.prompt_tokens, usage.completion_tokens) == (100 * turns, 7 * turns)
    last = server.seen[-1]
    assert (last["model"], last["temperature"], last["max_tokens"]) == ("m/gold", 1.0, 300)
    roles = [message["role"] for message in last["messages"]]
    assert roles == ["system", "user"] + ["assistant", "user"] * (turns - 1)
    assert last["messages"][0]["content"] == SYSTEM
    assert TASK.statement in last["messages"][1]["content"]
    assert "<tool_response>" in last["messages"][-1]["content"]


def test_without_usage_our_tokens_count(server: ChatServer) -> None:
    endpoint = Endpoint(server.url, "m/gold")
    episode = play(server, endpoint)
    assert endpoint.usage.num_uncounted == len(episode.turns)
    assert endpoint.usage.prompt_tokens == sum(turn.prompt_end for turn in episode.turns)
    sampled = sum(turn.sample_end - turn.prompt_end for turn in episode.turns)
    assert endpoint.usage.completion_tokens == sampled


@given(text, text)
def test_a_view_becomes_the_messages_that_it_was_made_of(system: str, user: str) -> None:
    ids = CHAT.prefix(system=system, user=user)
    assert split_messages(ids, CHAT) == [
        {"role": "system", "content": system},
        {"role": "user", "content": user},
    ]


@given(text)
def test_an_answer_forges_no_turn(content: str) -> None:
    ids = encode_answer(Answer(content, (), False, None, 0), CHAT)
    assert ids.count(CHAT.eot_id) == 1
    assert CHAT.decode(ids[:-1]) == content


def test_arguments_that_are_none_are_left_to_the_reader() -> None:
    ids = encode_answer(Answer("", (("submit", "[1"),), False, None, 0), CHAT)
    assert CHAT.decode(ids[:-1]) == '<tool_call>{"name": "submit", "arguments": [1}</tool_call>'


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "[]",
        "{}",
        '{"choices": []}',
        '{"choices": [{"message": null}]}',
        '{"choices": [{"message": {"tool_calls": [{"function": 1}]}}]}',
    ],
)
def test_what_is_no_answer_is_none(raw: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (JSON's own is one)
        read_answer(raw.encode())


def test_a_long_answer_is_cut(server: ChatServer) -> None:
    server.answer = lambda messages: {"content": "many words " * 400}
    server.finish = "length"
    episode = play(server, Endpoint(server.url, "m/gold"))
    assert {turn.sample_end - turn.prompt_end for turn in episode.turns} == {300}


def test_what_fails_for_now_is_sent_again(server: ChatServer) -> None:
    server.statuses = [503, 429, 500, 200, 502]
    endpoint = Endpoint(server.url, "m/gold", patience=AT_ONCE)
    episode = play(server, endpoint)
    assert is_solved(episode)
    assert endpoint.usage.num_retries == 4
    assert endpoint.usage.num_requests == len(episode.turns)


def test_what_fails_for_long_is_the_machines_failure(server: ChatServer) -> None:
    server.statuses = [503] * 6
    with pytest.raises(InfrastructureError, match="failed 6 times: HTTP 503"):
        play(server, Endpoint(server.url, "m/gold", patience=AT_ONCE))


def test_a_server_that_hangs_is_no_longer_waited_for(server: ChatServer) -> None:
    released = Event()
    server.answer = lambda messages: {"content": str(released.wait())}
    try:
        with pytest.raises(InfrastructureError, match="TimeoutError"):
            play(server, Endpoint(server.url, "m/gold", patience=AT_ONCE, limit_s=0.05))
    finally:
        released.set()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"key": "other"}, "HTTP 401 .*no such key.* TIGHTROPE_ENDPOINT_KEY"),
        ({"model": "m/god"}, "no such model .*m/god.* name one that it has: m/gold"),
        ({"url": "http://127.0.0.1:9/v1"}, "cannot be reached .*start the server"),
    ],
    ids=["key", "model", "address"],
)
def test_what_the_user_must_mend_is_told_at_once(
    server: ChatServer, change: dict[str, str], told: str
) -> None:
    server.key = "secret"
    given = {"url": server.url, "model": "m/gold", "key": "secret"}
    Endpoint(**given).check()
    with pytest.raises(UserError, match=told) as caught:
        Endpoint(**given | change).check()
    assert "secret" not in str(caught.value)


def test_a_refused_request_ends_the_command(server: ChatServer) -> None:
    server.statuses = [400]
    with pytest.raises(UserError, match=r"HTTP 400 .*not now"):
        play(server, Endpoint(server.url, "m/gold"))


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_refused_after_others_were_answered_breaks_its_episode_only(
    server: ChatServer, status: int
) -> None:
    server.statuses = [200, status]
    with pytest.raises(InfrastructureError, match=f"HTTP {status} .*not now"):
        play(server, Endpoint(server.url, "m/gold"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_key_or_model_that_is_refused_later_ends_the_command(
    server: ChatServer, status: int
) -> None:
    server.statuses = [200, status]
    with pytest.raises(UserError, match=f"HTTP {status} .*not now"):
        play(server, Endpoint(server.url, "m/gold"))


def test_what_was_answered_is_not_asked_again_and_is_charged_once(server: ChatServer) -> None:
    """An episode that the machine broke, or a command that was killed, is played anew."""
    server.usage = {"prompt_tokens": 100, "completion_tokens": 7}
    endpoint, kept, told = Endpoint(server.url, "m/gold"), dict[str, Answer](), list[Usage]()
    first = play(server, endpoint, kept=kept, on_answer=lambda *each: told.append(each[2]))
    num_asked = len(server.seen)
    again = play(server, endpoint, kept=kept)
    assert again == first and len(server.seen) == num_asked == len(kept) == len(told)
    assert endpoint.usage.num_requests == num_asked
    assert sum(charge.prompt_tokens for charge in told) == endpoint.usage.prompt_tokens
    assert play(server, endpoint, kept={}) == first and len(server.seen) == 2 * num_asked


def test_a_server_is_told_of_the_tools_in_the_place_of_the_runs_prompt(server: ChatServer) -> None:
    episode = play(server, Endpoint(server.url, "m/gold"), system="the tools are ...")
    assert server.seen[0]["messages"][0] == {"role": "system", "content": "the tools are ..."}
    assert split_messages(episode.segment_ids[0], CHAT)[0]["content"] == SYSTEM


def test_the_model_need_not_be_named_where_there_is_one(server: ChatServer) -> None:
    assert open_endpoint(f"endpoint:{server.url}", key=None).model == "m/gold"
    assert open_endpoint(f"{server.url}#m/gold", key=None).url == server.url
    server.models = ["m/gold", "m/other"]
    with pytest.raises(UserError, match=r"which model of .* it has m/gold, m/other"):
        open_endpoint(server.url, key=None)


def test_a_template_that_is_not_in_chatml_is_refused() -> None:
    check_chatml(CHAT)
    other = ChatFormat(TOKENIZER, template=template_text("tiny"))
    check_chatml(other)
    foreign = template_text("chatml").replace("<|im_start|>", "<start>")
    with pytest.raises(UserError, match="chat template"):
        check_chatml(ChatFormat(TOKENIZER, template=foreign))


def test_requests_keep_a_pace_and_all_wait_where_the_server_asks_to(server: ChatServer) -> None:
    server.statuses, server.retry_after = [429], "1"
    pace = Pace(per_minute=1200)
    began = time.monotonic()
    episode = play(server, Endpoint(server.url, "m/gold", patience=AT_ONCE, pace=pace))
    assert time.monotonic() - began >= 1 + 0.05 * (len(episode.turns) - 1)
