"""Started servers answer, are replaced once, and are gone however the run ends."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from envs.errors import UserError
from tests.train.servers.ports import free_port
from tests.train.servers.stand_in import StandIn, stand_in_python
from train.servers.client import is_ready
from train.servers.keeper import pick_gpu
from train.servers.start import ServerPlan, StartedServers, choose_gpus, find_python, has_vllm

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 30.0


def plan(folder: Path, *, python: str = "", sleeps: bool = False) -> ServerPlan:
    return ServerPlan(
        python=python or str(stand_in_python(folder, (5, 6))),
        base="folder/of the base",
        name="run-base",
        tokenizer="tokenizer",
        dtype="bfloat16",
        window_tokens=420,
        lora_rank=33,
        max_rows=9,
        memory_share=0.5 if sleeps else None,
        sleeps=sleeps,
    )


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pid_of(url: str) -> int:
    return int(httpx2.get(f"{url}/health", trust_env=False).json()["pid"])


def is_gone(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_a_server_is_replaced_once_and_all_end_with_the_run(tmp_path: Path) -> None:
    port = free_port(2)
    servers = StartedServers(plan(tmp_path), port=port, gpus=[None, None], folder=tmp_path / "logs")
    assert servers.urls == [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
    elsewhere = StartedServers(servers.plan, port=port, gpus=[None, None], folder=tmp_path / "logs")
    with servers.running():
        servers.wait_ready(limit_s=LIMIT_S)
        first, second = map(pid_of, servers.urls)
        servers.hold()
        os.kill(first, signal.SIGKILL)
        until(lambda: not servers.runs(servers.urls[0]))
        time.sleep(1.2)
        assert not servers.runs(servers.urls[0]), "not while others need the memory"
        servers.go_on()
        until(lambda: is_ready(servers.urls[0]))
        again = pid_of(servers.urls[0])
        assert again != first and not servers.given_up
        os.kill(again, signal.SIGKILL)
        until(lambda: servers.given_up == {servers.urls[0]})
        assert elsewhere.given_up == servers.given_up, "as in other processes of the run"
        assert is_ready(servers.urls[1]), "the other one goes on"
    assert is_gone(second)
    log = (tmp_path / "logs" / "vllm_0.txt").read_text()
    assert log.count("started with --model folder/of the base") == 2
    assert "--max-lora-rank 64 --generation-config vllm" in log and "--max-model-len 420" in log


def test_a_server_ends_with_a_trainer_that_is_killed(tmp_path: Path) -> None:
    port = free_port(1)
    script = f"""
import time
from pathlib import Path
from tests.train.servers.test_start import plan
from train.servers.start import StartedServers
folder = Path({str(tmp_path)!r})
with StartedServers(plan(folder), port={port}, gpus=[None], folder=folder).running():
    time.sleep(60)
"""
    trainer = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, process_group=0)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: is_ready(url))
        server = pid_of(url)
        trainer.kill()
        until(lambda: is_gone(server))
    finally:
        trainer.kill()
        trainer.wait()


def canned(port: int) -> StandIn:
    return StandIn(lambda name, body: ([5], [-0.5], "stop"), port=port)


def test_the_port_of_another_server_is_refused(tmp_path: Path) -> None:
    with canned(0).running() as other:
        port = other.server_address[1]
        servers = StartedServers(plan(tmp_path), port=port, gpus=[None], folder=tmp_path)
        with pytest.raises(UserError, match=r"in use.*rollouts\.port"):
            servers.running(release_limit_s=0).__enter__()


def test_another_server_is_not_taken_for_one_that_still_starts(tmp_path: Path) -> None:
    slow, port = tmp_path / "slow", free_port(1)
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    started = plan(tmp_path, python=str(slow))
    servers = StartedServers(started, port=port, gpus=[None], folder=tmp_path)
    refused = pytest.raises(UserError, match=r"serves base.*rollouts\.port")
    with servers.running(), canned(port).running(), refused:
        servers.wait_ready(limit_s=LIMIT_S)


def test_a_server_whose_port_somebody_takes_is_not_replaced(tmp_path: Path) -> None:
    port = free_port(1)
    servers = StartedServers(plan(tmp_path), port=port, gpus=[None], folder=tmp_path)
    with servers.running():
        servers.wait_ready(limit_s=LIMIT_S)
        servers.hold()
        os.kill(pid_of(servers.urls[0]), signal.SIGKILL)
        until(lambda: not servers.runs(servers.urls[0]))
        with canned(port).running():
            servers.go_on()
            until(lambda: servers.given_up == {*servers.urls})


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no memory left >&2\nexit 3\n")
    broken.chmod(0o755)
    servers = StartedServers(
        plan(tmp_path, python=str(broken)), port=free_port(1), gpus=[None], folder=tmp_path
    )
    with servers.running(), pytest.raises(UserError, match=r"status 3.*no memory left"):
        servers.wait_ready(limit_s=LIMIT_S)


def test_a_server_that_shares_a_gpu_can_sleep_and_says_all_of_its_sampling(tmp_path: Path) -> None:
    shared = plan(tmp_path, sleeps=True)
    line = " ".join(shared.command(8100))
    assert "--gpu-memory-utilization 0.5" in line and "--enable-sleep-mode" in line
    assert shared.environment()["VLLM_SERVER_DEV_MODE"] == "1"
    assert "VLLM_SERVER_DEV_MODE" not in plan(tmp_path).environment()
    assert "--logprobs-mode processed_logprobs" in line


@pytest.mark.parametrize(
    ("num_gpus", "num_processes", "wanted", "given", "expected"),
    [
        (1, 1, None, None, ([0], True)),
        (8, 8, None, None, (list(range(8)), True)),
        (8, 4, None, None, ([4, 5, 6, 7], False)),
        (8, 4, 2, None, ([4, 5], False)),
        (8, 8, 2, None, ([0, 1], True)),
        (8, 2, None, [6, 7], ([6, 7], False)),
        (2, 2, None, [1], ([1], True)),
        (0, 1, None, None, ([None], False)),
        (0, 2, 2, None, ([None, None], False)),
    ],
)
def test_servers_get_the_gpus_behind_those_that_train(
    num_gpus: int,
    num_processes: int,
    wanted: int | None,
    given: list[int] | None,
    expected: tuple[list[int | None], bool],
) -> None:
    found = choose_gpus(wanted=wanted, given=given, num_gpus=num_gpus, num_processes=num_processes)
    assert found == expected


def test_more_servers_than_gpus_are_refused() -> None:
    with pytest.raises(UserError, match=r"GPU 2 of 2.*rollouts\.start"):
        choose_gpus(wanted=3, given=None, num_gpus=2, num_processes=1)


def test_a_gpu_is_counted_among_those_that_the_trainer_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert pick_gpu(3) == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-1f")
    assert pick_gpu(1) == "GPU-1f"


def test_an_interpreter_is_asked_whether_it_has_vllm(tmp_path: Path) -> None:
    assert has_vllm(str(stand_in_python(tmp_path, (1,))))
    assert not has_vllm(find_python(None)) and not has_vllm(str(tmp_path / "nowhere"))
