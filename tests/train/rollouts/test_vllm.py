"""Episodes on servers: each stays on one, and a server that dies takes no episode with it."""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from envs.errors import UserError
from envs.records import Episode, View
from envs.workers.workbench import Workbench
from rewards.outcome import failed_part, is_scorable
from tests.envs.world import CHAT, TASK, Believing, InProcess, OneTask
from tests.train import tiny_policy
from tests.train.rollouts.test_runner import SETTINGS
from tests.train.servers.ports import free_port
from tests.train.servers.stand_in import StandIn, serve_model, stand_in_python
from tests.train.servers.test_start import pid_of, plan, until
from train.rollouts import vllm
from train.rollouts.runner import EpisodeRequest, RolloutRunner
from train.rollouts.vllm import ServedAdapter, VllmSampler, VllmServers
from train.servers.adapters import AdapterFolder
from train.servers.client import Sampling, ServerLost, is_ready
from train.servers.start import StartedServers

SHORT = SETTINGS.model_copy(
    update={"context": SETTINGS.context.model_copy(update={"max_turns": 3, "max_new_tokens": 24})}
)
SAMPLING = Sampling(stop_ids=tuple(CHAT.stop_ids), max_new_tokens=24)
CALL = CHAT.encode('<tool_call>{"name": "list_files", "arguments": {}}</tool_call>')
ANSWER = (*CALL, CHAT.eot_id)  # every turn lists the files, until the window is full


def new_runner(settings: Any = SETTINGS) -> RolloutRunner:
    store = OneTask()
    bench = InProcess(Workbench(store, Believing()))  # type: ignore[arg-type]
    return RolloutRunner(store, CHAT, settings, bench)  # type: ignore[arg-type]


def requests(count: int) -> list[EpisodeRequest]:
    return [EpisodeRequest(TASK.id, f"g/{at // 4}", at % 4, 480, 100 + at) for at in range(count)]


def served(folder: Path, *urls: str, **options: Any) -> ServedAdapter:
    return ServedAdapter("run-v0", folder, urls, **options)


def play(served: ServedAdapter, count: int, settings: Any = SETTINGS) -> list[Episode]:
    return new_runner(settings).play_model(requests(count), served, policy="grpo")


def canned(text: Sequence[int] = ANSWER) -> StandIn:
    server = StandIn(lambda name, body: (list(text), [-0.5] * len(text), "stop"))
    server.adapters["run-v0"] = "there"
    return server


def test_greedy_episodes_are_those_of_our_own_engine(tmp_path: Path) -> None:
    policy = tiny_policy.policy(vocab_size=600).eval()
    policy.save_pretrained(str(tmp_path))
    server = serve_model(tiny_policy.policy(vocab_size=600).unload())
    server.load("run-v0", str(tmp_path))
    server.adapters["run-v0"] = str(tmp_path)
    runner = new_runner(SHORT)
    ours = runner.play_model(requests(4), policy, policy="grpo", greedy=True)
    with server.running():
        theirs = runner.play_model(
            requests(4), served(tmp_path, server.url), policy="grpo", greedy=True
        )
    assert [each.segment_ids for each in theirs] == [each.segment_ids for each in ours]
    for one, other in zip(ours, theirs, strict=True):
        for mine, its in zip(one.events, other.events, strict=True):
            if mine.kind == "sampled":
                torch.testing.assert_close(
                    torch.tensor(its.sampling_logps),
                    torch.tensor(mine.sampling_logps),
                    rtol=1e-4,
                    atol=1e-4,
                )
    assert all(body["temperature"] == 0 for body in server.requests)


def test_an_episode_stays_on_its_server_and_no_two_requests_share_a_seed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(canned().running()) for _ in range(3)]
        episodes = play(served(tmp_path, *(each.url for each in servers)), 48)
    assert all(map(is_scorable, episodes))
    seeds = [body["seed"] for server in servers for body in server.requests]
    assert len(set(seeds)) == len(seeds) == sum(len(each.turns) for each in episodes)
    for server in servers:
        lengths = Counter(len(body["prompt"]) for body in server.requests)
        assert len(set(lengths.values())) == 1, "as many second turns as first ones, and so on"
    shares = sorted(len(server.requests) for server in servers)
    assert shares[0] > 0.5 * shares[-1], shares


def test_a_group_shares_a_server_that_is_not_too_busy(tmp_path: Path) -> None:
    sampler = VllmSampler(served(tmp_path, "http://a", "http://b"), SAMPLING, max_rows=99)

    async def place(count: int, group: str) -> list[str]:
        start = 1000 * len(sampler._places)
        return [await sampler.place(start + at, group) for at in range(count)]

    first = asyncio.run(place(8, "g/0"))
    second = asyncio.run(place(8, "g/1"))
    assert len({*first}) == len({*second}) == 1 and first[0] != second[0]
    third = asyncio.run(place(40, "g/2"))
    assert {*third} == {"http://a", "http://b"}
    counts = Counter(sampler._places.values())
    assert abs(counts["http://a"] - counts["http://b"]) <= vllm._BUSIER


def test_a_server_killed_in_mid_step_takes_no_episode_with_it(tmp_path: Path) -> None:
    python = str(stand_in_python(tmp_path, ANSWER, delay_s=0.05))
    servers = StartedServers(
        plan(tmp_path, python=python), port=free_port(2), gpus=[None, None], folder=tmp_path
    )
    with servers.running():
        servers.wait_ready(limit_s=30)
        for url in servers.urls:
            assert vllm.client.load_adapter(url, "run-v0", tmp_path) == ""
        policy = served(tmp_path, *servers.urls, patience_s=30, given_up=lambda: servers.given_up)
        first, second = servers.urls
        killer = threading.Timer(0.3, lambda: os.kill(pid_of(first), signal.SIGKILL))
        killer.start()
        episodes = play(policy, 24)
        killer.join()
        assert all(map(is_scorable, episodes)) and {len(each.turns) for each in episodes} == {8}
        until(lambda: is_ready(first))
        killer = threading.Timer(0.3, lambda: [os.kill(pid_of(u), 9) for u in servers.urls])
        killer.start()
        episodes = play(policy, 24)
        killer.join()
        assert all(map(is_scorable, episodes)), "the second one was replaced meanwhile"
        assert policy.lost <= {first} == servers.given_up
        os.kill(pid_of(second), signal.SIGKILL)
        until(lambda: len(servers.given_up) == 2)
        episodes = play(policy, 2)
    assert {failed_part(each) for each in episodes} == {"server"}
    assert policy.lost == {first, second}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("said", [[], {"data": [1]}, "text"])
def test_one_that_answers_otherwise_than_vllm_holds_nobody_up(tmp_path: Path, said: Any) -> None:
    server = canned()
    server.answer = lambda path, body: (200, said)  # type: ignore[method-assign]
    with server.running():
        policy = served(tmp_path, server.url, patience_s=0.5)
        episodes = play(policy, 2)
    assert {failed_part(each) for each in episodes} == {"server"} and policy.lost == {server.url}


@pytest.mark.timeout(60)
def test_a_fault_while_a_server_is_waited_for_holds_nobody_up(tmp_path: Path) -> None:
    def broken() -> set[str]:
        raise RuntimeError("a bug")

    policy = served(tmp_path, "http://127.0.0.1:9", given_up=broken)
    assert {failed_part(each) for each in play(policy, 2)} == {"server"}


def test_a_server_is_asked_beside_all_samples(tmp_path: Path) -> None:
    may_answer = threading.Event()

    def complete(name: str, body: dict[str, Any]) -> tuple[list[int], list[float], str]:
        may_answer.wait(30)
        return [5], [-0.5], "stop"

    server = StandIn(complete)
    server.adapters["run-v0"] = "there"

    async def run() -> bool | None:
        async with VllmSampler(served(tmp_path, server.url), SAMPLING, max_rows=2) as sampler:
            view = View(prompt_ids=(1, 2), observations=(), num_cached=0, num_rewrites=0)
            policies = [sampler.policy(seed=each, group="g") for each in range(12)]
            samples = [asyncio.create_task(policy.act(view)) for policy in policies]
            await asyncio.sleep(0.2)
            there = await sampler._has_adapter(server.url)
            may_answer.set()
            await asyncio.gather(*samples)
            return there

    with server.running():
        assert asyncio.run(run())


def test_a_server_that_somebody_started_again_gets_the_adapter(tmp_path: Path) -> None:
    server = canned()
    server.adapters.clear()
    with server.running():
        episodes = play(served(tmp_path, server.url), 2)
    assert all(map(is_scorable, episodes)) and server.events == [("load", "run-v0")]


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    return tiny_policy.trainer(tiny_policy.policy(), tmp_path / "run", tiny_policy.always([]))


def at_step(trainer: Any, step: int) -> Any:
    trainer.state.global_step = step
    return trainer


def test_each_version_is_published_once_and_the_one_before_is_gone(
    tmp_path: Path, trainer: Any
) -> None:
    with canned().running() as one, canned().running() as other:
        for each in (one, other):
            each.adapters.clear()
        servers = VllmServers(
            [one.url, other.url], adapters=AdapterFolder(tmp_path / "served", "run")
        )
        for step in (0, 0, 1, 2):
            with servers.acting(at_step(trainer, step)) as policy:
                assert policy.name == f"run-v{step}" and policy.folder.is_dir()
                for each in (one, other):
                    assert each.adapters == {policy.name: str(policy.folder)}
        files = {each.name for each in policy.folder.iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors"} <= files
        folder = tmp_path / "served"
        assert sorted(each.name for each in folder.iterdir()) == ["run-v1", "run-v2"]
        servers.close()
        assert not one.adapters and not other.adapters and not list(folder.iterdir())
    kinds = [kind for kind, _ in one.events]
    assert kinds == ["load", "load", "unload", "load", "unload", "unload"]
    assert {name for kind, name in one.events} == {"run-v0", "run-v1", "run-v2"}


def test_a_folder_that_a_server_does_not_see_is_refused_at_the_start(
    tmp_path: Path, trainer: Any
) -> None:
    with canned().running() as one:
        one.adapters.clear()
        servers = VllmServers([one.url], adapters=AdapterFolder(tmp_path / "served", "run"))
        elsewhere = one.answer
        one.answer = lambda path, body: elsewhere(path, body | {"lora_path": "/other/machine"})  # type: ignore[method-assign]
        with pytest.raises(UserError, match=r"404.*other/machine.*rollouts\.adapter_dir"):
            servers.acting(at_step(trainer, 0)).__enter__()


def test_one_that_is_lost_between_steps_is_left_out_and_without_any_the_run_ends(
    tmp_path: Path, trainer: Any
) -> None:
    with canned().running() as one:
        with canned().running() as other:
            servers = VllmServers(
                [one.url, other.url],
                adapters=AdapterFolder(tmp_path / "served", "run"),
                patience_s=0.5,
            )
            with servers.acting(at_step(trainer, 0)):
                pass
        with servers.acting(at_step(trainer, 1)) as policy:
            assert all(map(is_scorable, play(policy, 4)))
            assert policy.lost == {other.url} or not policy.lost
    with pytest.raises(ServerLost, match="no vLLM server is left"):
        servers.acting(at_step(trainer, 2)).__enter__()


def test_servers_that_share_the_gpu_sleep_while_the_policy_trains(
    tmp_path: Path, trainer: Any
) -> None:
    def sleeps() -> bool:
        return bool(httpx2.get(f"{started.urls[0]}/is_sleeping").json()["is_sleeping"])

    python = str(stand_in_python(tmp_path, ANSWER))
    started = StartedServers(
        plan(tmp_path, python=python), port=free_port(1), gpus=[None], folder=tmp_path
    )
    with started.running():
        started.wait_ready(limit_s=30)
        servers = VllmServers(
            started.urls,
            adapters=AdapterFolder(tmp_path / "served", "run"),
            started=started,
            patience_s=30,
            sleep=True,
        )
        for step in (0, 1):
            with servers.acting(at_step(trainer, step)) as policy:
                assert not sleeps()
                assert all(map(is_scorable, play(policy, 1)))
            assert sleeps()


def test_one_that_fails_while_it_dies_is_replaced_between_steps(
    tmp_path: Path, trainer: Any
) -> None:
    python = str(stand_in_python(tmp_path, ANSWER))
    started = StartedServers(
        plan(tmp_path, python=python), port=free_port(1), gpus=[None], folder=tmp_path
    )
    (url,) = started.urls
    with started.running():
        started.wait_ready(limit_s=30)
        servers = VllmServers(
            [url],
            adapters=AdapterFolder(tmp_path / "served", "run"),
            started=started,
            patience_s=30,
        )
        with servers.acting(at_step(trainer, 0)):
            pass
        pid = pid_of(url)
        httpx2.post(f"{url}/fail", json={"routes": ["/"]})
        dies = threading.Timer(1.0, os.kill, (pid, signal.SIGKILL))
        dies.start()
        with servers.acting(at_step(trainer, 1)) as policy:
            assert all(map(is_scorable, play(policy, 1)))
        httpx2.post(f"{url}/fail", json={"routes": ["/v1/load"]})
        with pytest.raises(ServerLost, match=r"no vLLM server is left.*500"):
            servers.acting(at_step(trainer, 2)).__enter__()
        assert url not in started.given_up, "it lives, and will not load it"


def test_each_turn_samples_with_a_seed_of_its_own(tmp_path: Path) -> None:
    with canned().running() as one:

        async def run() -> None:
            async with VllmSampler(served(tmp_path, one.url), SAMPLING, max_rows=2) as sampler:
                for _ in range(2):  # the second attempt samples as the first
                    policy = sampler.policy(seed=5, group="g")
                    view = View(prompt_ids=(1, 2), observations=(), num_cached=0, num_rewrites=0)
                    await policy.act(view)
                    await policy.act(view)

        asyncio.run(run())
    seeds = [body["seed"] for body in one.requests]
    assert (
        seeds[:2] == seeds[2:] and seeds[0] != seeds[1] and all(0 <= each < 2**63 for each in seeds)
    )
