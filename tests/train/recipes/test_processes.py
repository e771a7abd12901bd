"""One process, DDP, ZeRO-2 and ZeRO-3 train alike, and a real GRPO run works under each.

Each launcher starts one job of two processes (`process_job.py`): importing takes most of the time.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from envs.errors import UserError
from envs.sources.build import build
from tests.train import tiny_policy
from tests.train.recipes.process_job import CLIP_NORMS, KL_WEIGHTS, SPLITS, STEPS, UPDATES, train
from tests.train.small_run import CONFIG, ROOT, add_policy, add_tokenizer, arguments, settings_in
from tests.train.tiny_policy import relative_difference
from train import grpo
from train.config.settings import Settings
from train.models.distributed import join
from train.stages.run_dir import stage_dir

BOUND = 1e-4  # of the norm
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ACCELERATE = ("accelerate.commands.launch", "--main_process_port", "0", "--config_file")
LAUNCHERS = {
    "ddp": TORCHRUN,
    "zero2": (*ACCELERATE, "configs/accelerate/cpu_zero2.yaml"),
    "zero3": (*ACCELERATE, "configs/accelerate/cpu_zero3.yaml"),
}
OVERRIDES = ("--grpo.kl_weight=0.1", "--grpo.group_size=2", "--context.max_turns=2")
OVERRIDES += ("--grpo.updates_per_rollout=2", "--grpo.importance_weights=token_truncate")


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
def job(request: pytest.FixtureRequest, folder: Path) -> tuple[str, Path, Settings]:
    """Run one job of two processes."""
    name = request.param
    out = folder / name
    out.mkdir()
    line = [f"--config={CONFIG}", *arguments(folder), f"--run.name={name}", *OVERRIDES]
    line += [f"--grpo.start_from={stage_dir(settings_in(folder), 'grpo').path / 'adapter'}"]
    run = [sys.executable, "-m", *LAUNCHERS[name], "tests/train/recipes/process_job.py"]
    run += [str(out), str(folder / "rows.json"), *line]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"DS_ACCELERATOR": "cpu", "PYTHONWARNINGS": "ignore"}
    made = settings_in(folder, f"--run.name={name}", *OVERRIDES)
    base = stage_dir(made, "sft").path
    base.parent.mkdir(parents=True)
    for stage in ("demos", "sft"):  # the tokenizer and the base are those of the first run
        (base.parent / stage).symlink_to(stage_dir(settings_in(folder), stage).path)
    done = subprocess.run(
        run, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, timeout=580
    )
    errors = [line for line in done.stderr.splitlines() if "rror" in line or "ignal" in line]
    assert not done.returncode, "\n".join([*errors[:20], done.stderr[-3000:]])
    return name, out, made


@pytest.mark.slow
@pytest.mark.parametrize("shares", SPLITS, ids=lambda shares: ":".join(map(str, shares)))
def test_two_processes_train_like_one(
    job: tuple[str, Path, Settings], folder: Path, shares: tuple[int, int]
) -> None:
    name, out, _ = job
    one = torch.load(folder / f"one-{shares[0]}.pt")
    ranks = [torch.load(out / f"{shares[0]}:{shares[1]}-{rank}.pt") for rank in (0, 1)]
    clip_norm = CLIP_NORMS[UPDATES[shares]]
    assert min(one["grad_norms"]) < clip_norm < max(one["grad_norms"])
    for two in ranks:
        assert two["world_size"] == 2
        assert two["kind"].endswith("MULTI_CPU" if name == "ddp" else "DEEPSPEED")
        assert two["num_microbatches"] == ranks[0]["num_microbatches"]
        assert min(two["num_microbatches"]) > 1
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
def test_two_processes_play_and_train(job: tuple[str, Path, Settings], folder: Path) -> None:
    _, _, settings = job
    stage = stage_dir(settings, "grpo")
    rows = stage.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, settings.grpo.max_steps + 1))
    for step in range(1, settings.grpo.max_steps + 1):
        episodes = stage.read_episodes(step)
        assert len(episodes) == settings.grpo.groups_per_step * settings.grpo.group_size
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
