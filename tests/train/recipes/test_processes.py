"""One process, DDP, ZeRO-2 and ZeRO-3 train alike, and a real GRPO run works under each.

Each launcher starts one job of two processes (`process_job.py`): importing takes most of the time.
ZeRO-2 is started as on two nodes: two launchers with a process each.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from envs.errors import UserError
from envs.sources.build import build
from tests.train import tiny_policy
from tests.train.recipes.process_job import CLIP_NORMS, KL_WEIGHTS, SPLITS, STEPS, UPDATES, train
from tests.train.servers.ports import free_port
from tests.train.servers.stand_in import StandIn, serve_model, stand_in_python
from tests.train.small_run import CONFIG, ROOT, add_policy, add_tokenizer, arguments, settings_in
from tests.train.tiny_policy import relative_difference
from train import grpo
from train.config.settings import Settings
from train.config.stage_settings import RolloutSettings
from train.models.distributed import find_longest_wait, join
from train.models.model import load_base
from train.stages.run_dir import stage_dir

Job = tuple[str, Path, Settings, StandIn]
BOUND = 1e-4  # of the norm
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ACCELERATE = ("accelerate.commands.launch", "--config_file")
LAUNCHERS = {
    "ddp": [TORCHRUN],
    "zero2": [],  # a launcher on each of two nodes
    "zero3": [(*ACCELERATE, "configs/accelerate/cpu_zero3.yaml", "--main_process_port", "0")],
}
OVERRIDES = ("--grpo.kl_weight=0.1", "--grpo.group_size=2", "--context.max_turns=2")
OVERRIDES += ("--grpo.updates_per_rollout=2", "--grpo.importance_weights=token_truncate")
OVERRIDES += ("--grpo.resample=1", "--grpo.curriculum=true", "--rollouts.max_staleness=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of five steps, what one process makes of them, and a run to continue with GRPO."""
    found = tmp_path_factory.mktemp("processes")
    steps = [tiny_policy.groups_of_rows(3, seed=step)[:7] for step in range(5)]
    (found / "rows.json").write_bytes(STEPS.dump_json(steps))
    for shares in SPLITS:
        how = {"beta": KL_WEIGHTS[shares], "num_updates": UPDATES[shares]}
        result = train(found / "one", steps, (7,), **how)
        torch.save(result, found / f"one-{shares[0]}.pt")
    build("synthetic", out_dir=found / "tasks", counts={"train": 4, "dev": 1, "test": 1}, seed=0)
    settings = settings_in(found)
    add_tokenizer(settings)
    add_policy(settings)
    return found


@pytest.fixture(scope="module", params=LAUNCHERS)
def job(request: pytest.FixtureRequest, folder: Path) -> Job:
    """Run one job of two processes."""
    name = request.param
    out = folder / name
    out.mkdir()
    line = [f"--config={CONFIG}", *arguments(folder), f"--run.name={name}", *OVERRIDES]
    line += [f"--grpo.start_from={stage_dir(settings_in(folder), 'grpo').path / 'adapter'}"]
    job = ["tests/train/recipes/process_job.py", str(out), str(folder / "rows.json"), *line]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"DS_ACCELERATOR": "cpu", "PYTHONWARNINGS": "ignore"}
    made = settings_in(folder, f"--run.name={name}", *OVERRIDES)
    first = stage_dir(made, "sft").path.parent
    for run in (first, first.with_name(f"{name}-served")):
        run.mkdir(parents=True)
        for stage in ("demos", "sft"):  # the tokenizer and the base are those of the first run
            (run / stage).symlink_to(stage_dir(settings_in(folder), stage).path)
    stand_in_python(out, (1,))
    (out / "port").write_text(str(free_port(1)))
    with serve_model(load_base(made)).running() as server:
        (out / "servers.json").write_text(json.dumps([server.url]))
        launch(name, out, job, environment)
    return name, out, made, server


def launch(name: str, out: Path, job: list[str], environment: dict[str, str]) -> None:
    """Run the job in two processes."""
    launchers = [
        subprocess.Popen(
            [sys.executable, "-m", *launcher, *job],
            cwd=ROOT,
            env=environment,
            stderr=(out / f"stderr{place}").open("w"),
        )
        for place, launcher in enumerate(LAUNCHERS[name] or on_two_nodes())
    ]
    try:
        codes = [launcher.wait(580) for launcher in launchers]
    finally:
        for launcher in launchers:
            launcher.terminate()
    said = "".join(path.read_text() for path in sorted(out.glob("stderr*")))
    errors = [line for line in said.splitlines() if "rror" in line or "ignal" in line]
    assert not any(codes), "\n".join([*errors[:20], said[-3000:]])


def on_two_nodes() -> list[tuple[str, ...]]:
    """Return the launchers of two nodes that find each other at a free port of this machine."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    place = ("--main_process_ip", "127.0.0.1", "--main_process_port", port)
    size = ("--num_machines", "2", "--num_processes", "2")
    config = (*ACCELERATE, "configs/accelerate/multi_node.yaml", *size, *place)
    return [(*config, "--machine_rank", rank) for rank in ("0", "1")]


@pytest.mark.slow
@pytest.mark.parametrize("shares", SPLITS, ids=lambda shares: ":".join(map(str, shares)))
def test_two_processes_train_like_one(job: Job, folder: Path, shares: tuple[int, int]) -> None:
    name, out, _, _ = job
    one = torch.load(folder / f"one-{shares[0]}.pt")
    ranks = [torch.load(out / f"{shares[0]}:{shares[1]}-{rank}.pt") for rank in (0, 1)]
    clip_norm = CLIP_NORMS[UPDATES[shares]]
    assert min(one["grad_norms"]) < clip_norm < max(one["grad_norms"])
    for two in ranks:
        assert two["world_size"] == 2
        assert two["kind"].endswith("MULTI_CPU" if name == "ddp" else "DEEPSPEED")
        assert two["num_microbatches"] == ranks[0]["num_microbatches"]
        assert statistics.median(two["num_microbatches"]) > 1
        assert two["grad_norms"] == pytest.approx(one["grad_norms"], rel=BOUND)
        assert set(two["shard_sizes"]) == ({0.5} if name == "zero3" else set())
        assert len(two["gradients"]) == len(one["gradients"]) == 5 * UPDATES[shares]
        differences = [
            relative_difference(ours, other)
            for ours, other in zip(two["gradients"], one["gradients"], strict=True)
        ]
        update = relative_difference(two["update"], one["update"])
        print(f"gradients {max(differences):.1e}, update {update:.1e} of the norm")
        assert max(differences) < BOUND
        assert update < BOUND
        if "resumed" in two:
            assert relative_difference(two["resumed"], one["update"]) < BOUND


@pytest.mark.slow
def test_two_processes_train_on_what_a_server_samples(job: Job) -> None:
    name, out, made, server = job
    stage = stage_dir(settings_in(out.parent, f"--run.name={name}-served"), "grpo")
    rows = stage.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, made.grpo.max_steps + 1))
    assert all(0 <= row["mismatch_kl"] < 1e-6 for row in rows), "each step with its own version"
    assert all(row["num_unscorable"] == 0 for row in rows)
    kinds = [kind for kind, _ in server.events]
    assert kinds == ["load", "load", "unload", "load", "unload", "unload"], "by the main process"
    assert list((stage.path / "served").iterdir()) == [] and not stage.served.exists()
    groups = {each.group_id for each in stage.read_episodes(1)}
    assert len(groups) == made.grpo.groups_per_step, "of both processes"


@pytest.mark.slow
def test_two_processes_end_alike_where_one_has_no_server_left(job: Job) -> None:
    name, out, _, _ = job
    told = [json.loads((out / f"served-{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0] == told[1]
    refused, *lost = told[0]
    assert "does not answer as vLLM does" in refused
    assert lost == (["no vLLM server is left"] if name == "ddp" else [])


@pytest.mark.slow
def test_two_processes_share_the_episodes_of_an_evaluation_and_of_the_gate(
    job: Job,
) -> None:
    _, out, settings, _ = job
    facts = [json.loads((out / f"gate-{rank}.json").read_text()) for rank in (0, 1)]
    assert facts[0] == facts[1] and facts[0]["dev_tasks"] == 1
    stage = stage_dir(settings, "evaluate")
    assert stage.list_episodes() == ["gold", "noop"]
    rows = stage.read_json("summary.json")["policies"]
    assert [(row["name"], row["num_tasks"]) for row in rows] == [("noop", 4), ("gold", 4)]
    for name in ("gold", "noop"):
        groups = [episode.group_id for episode in stage.read_episodes(name)]
        assert groups == [f"evaluate/0/{place}" for place in range(4)]


def test_a_run_on_several_machines_has_the_settings_of_one_on_a_cpu() -> None:
    """Of ZeRO-2 the tests start two launchers with the one file; the other differs in places."""
    several, one = (
        yaml.safe_load((ROOT / "configs" / "accelerate" / name).read_text())
        for name in ("multi_node.yaml", "cpu_zero2.yaml")
    )
    places = {"num_machines", "num_processes", "main_process_port", "rdzv_backend", "same_network"}
    alike = [{k: v for k, v in each.items() if k not in places} for each in (several, one)]
    launcher = alike[0]["deepspeed_config"].pop("deepspeed_multinode_launcher")
    assert launcher == "standard", "others start processes by ssh"
    assert alike[0] == alike[1]


@pytest.mark.parametrize(
    ("episode_s", "turn_s", "expected_s"), [(3600, 600, 12000), (60, 10, 7200)]
)
def test_a_process_waits_as_long_as_the_slowest_episode_may_take(
    episode_s: float, turn_s: float, expected_s: float
) -> None:
    limits = RolloutSettings(episode_limit_s=episode_s, turn_limit_s=turn_s)
    assert find_longest_wait(limits).total_seconds() == expected_s


@pytest.mark.slow
def test_two_processes_play_and_train(job: Job, folder: Path) -> None:
    _, _, settings, _ = job
    stage = stage_dir(settings, "grpo")
    rows = stage.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, settings.grpo.max_steps + 1))
    size = settings.grpo.group_size
    for step, row in enumerate(rows, start=1):
        episodes = stage.read_episodes(step)
        assert len(episodes) == settings.grpo.groups_per_step * size
        assert {each.policy_version for each in episodes} == {max(0, step - 2)}
        name = f"dropped_{step:05d}"
        dropped = stage.read_episodes(name) if name in stage.list_episodes() else []
        assert len(dropped) == row["resample/num_groups_replaced"] * size
        assert row["num_episodes"] == len(episodes) + len(dropped)
        drawn = [f"grpo/{step - 1}/{place}" for place in range(int(row["num_episodes"]) // size)]
        assert sorted({each.group_id for each in (*episodes, *dropped)}) == drawn
    first = stage_dir(settings_in(folder), "grpo").path
    started = load_file(first / "adapter" / "adapter_model.safetensors")
    ended = load_file(stage.path / "adapter" / "adapter_model.safetensors")
    assert ended.keys() == started.keys()
    assert all(ended[name].shape == started[name].shape for name in started)
    assert any(not torch.equal(ended[name], started[name]) for name in started)


def test_indivisible_groups_are_told_before_anything_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    line = ["--config", str(CONFIG), *arguments(tmp_path)]
    with pytest.raises(UserError, match="2 groups, 3 processes"):
        grpo.main(line)


def test_a_process_alone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match="1 of 2"):
        join(world_size=2)
