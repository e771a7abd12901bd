"""GRPO through real vLLM servers on a CPU: `make test-vllm`. Not in the default suite.

$TIGHTROPE_VLLM_PYTHON names the interpreter that has vLLM. Base and adapter are random, of the tiny
model's shape.
"""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewards.outcome import is_scorable
from tests.train.rollouts.test_backend import train_on
from tests.train.servers.ports import free_port
from tests.train.small_run import (
    CONFIG,
    add_warm_start,
    arguments,
    on_one_core,
    settings_in,
)
from train import grpo as grpo_command
from train.models.model import add_adapter
from train.stages.exit_codes import run_main
from train.stages.run_dir import StageDir, stage_dir

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(3600)]

STEPS = 3
LOADED, API_SERVER = "Loaded new LoRA adapter", re.compile(r"APIServer pid=(\d+)")
KILL_LIMIT_S = 1800.0
SHORT = (
    "--context.max_turns=3",
    "--context.max_new_tokens=24",
    "--grpo.kl_weight=0.1",
    f"--grpo.max_steps={STEPS}",
    "--grpo.evaluate_every=null",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("vllm")
    settings, base = add_warm_start(found, num_train=16)
    policy = add_adapter(base, settings)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)  # one of zeros would show nothing
    policy.save_pretrained(str(found / "adapter"))
    return found


def train(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[StageDir, Any]:
    """Run the stage with servers that it starts; returns it and its settings."""
    python = os.environ.get("TIGHTROPE_VLLM_PYTHON")
    assert python, "make test-vllm sets it"
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # all have the same cores here
    alone = (
        "[--enforce-eager, --distributed-executor-backend, uni]"  # fewer processes, no compiling
    )
    line = [
        *arguments(folder),
        *SHORT,
        f"--grpo.start_from={folder / 'adapter'}",
        f"--rollouts.python={python}",
        f"--rollouts.port={free_port(2)}",
        f"--rollouts.server_args={alone}",
        *overrides,
    ]
    with on_one_core():
        assert run_main(grpo_command.main, [f"--config={CONFIG}", *line, "--clean"]) == 0
    settings = settings_in(folder, *line[3:])
    return stage_dir(settings, "grpo"), settings


@pytest.mark.parametrize("num_servers", [1, 2])
def test_three_steps_through_servers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_servers: int
) -> None:
    stage, settings = train(folder, monkeypatch, f"--rollouts.start={num_servers}")
    rows = stage.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(0 <= row["mismatch_kl"] < 1e-2 for row in rows)
    assert all(row["num_unscorable"] == 0 for row in rows)
    assert list((stage.path / "served").iterdir()) == []
    for at in range(num_servers):
        log = (stage.path / f"vllm_{at}.txt").read_text()
        assert log.count(LOADED) == STEPS
        assert log.count("Removed LoRA adapter") == STEPS
    ours = train_on(settings, stage, tmp_path)
    theirs = load_file(stage.path / "adapter" / "adapter_model.safetensors")
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-7)


def test_a_server_killed_in_mid_step_costs_no_episode(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "--run.name=killed"  # a run of its own, so that no log of another test is read
    for stage in ("demos", "sft"):
        own = stage_dir(settings_in(folder, name), stage).path
        own.parent.mkdir(parents=True, exist_ok=True)
        own.symlink_to(stage_dir(settings_in(folder), stage).path)
    log = stage_dir(settings_in(folder, name), "grpo").path / "vllm_0.txt"

    def kill_one() -> str:
        """Wait for the first samples of the run, then kill the process that serves the port."""
        until = time.monotonic() + KILL_LIMIT_S
        while not (log.is_file() and LOADED in log.read_text()):
            assert time.monotonic() < until, "no server has loaded an adapter"
            time.sleep(0.1)
        (pid,) = set(API_SERVER.findall(log.read_text()))
        os.kill(int(pid), signal.SIGKILL)
        return str(pid)

    with ThreadPoolExecutor(1) as killer:
        killing = killer.submit(kill_one)
        stage, _ = train(folder, monkeypatch, name, "--rollouts.start=2")
        killed = killing.result(timeout=0)
    text = log.read_text()
    (again,) = set(API_SERVER.findall(text)) - {killed}
    assert text.rindex(LOADED) > text.index(f"APIServer pid={again}"), "it was replaced, and used"
    rows = stage.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(0 <= row["mismatch_kl"] < 1e-2 for row in rows)
    for step in range(STEPS):
        assert all(map(is_scorable, stage.read_episodes(step + 1)))
