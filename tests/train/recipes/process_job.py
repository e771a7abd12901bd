"""One process of a training job on saved rows, and then of a real GRPO run: for the launchers.

torchrun --nproc_per_node 2 tests/train/recipes/process_job.py OUT ROWS [grpo.py's arguments]
"""

import json
import os
import signal
import sys
from datetime import datetime
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from typing import Any

import torch
from accelerate import PartialState
from pydantic import TypeAdapter
from torch import Tensor

from envs.errors import InfrastructureError, UserError
from envs.records import Segment
from tests.train import tiny_policy
from tests.train.servers.test_start import pid_of, until
from tightrope_cli.evaluate import parse
from train import grpo
from train.models.distributed import join, uses_deepspeed, whole_weights
from train.models.model import load_base
from train.recipes import grpo as recipe
from train.recipes.gate import measure_gate
from train.rl.grpo_trainer import RolloutBatch, StepRequest
from train.rl.trackers import open_tracker
from train.rollouts.backend import open_backend
from train.rollouts.evaluate import evaluate, plan_evaluation
from train.servers.client import is_ready
from train.stages.run_dir import StageDir, stage_dir

NUM_STEPS = 5
SAVED = 4  # the step of the checkpoint
SPLITS = ((7, 0), (5, 2), (3, 4))  # rows of the first and the second process
KL_WEIGHTS = {(7, 0): 0.0, (5, 2): 0.1, (3, 4): 0.0}
UPDATES = {(7, 0): 1, (5, 2): 1, (3, 4): 2}  # of each step; several with importance weights
TOKENS_PER_MICROBATCH = 80  # some rows share one
CLIP_NORMS = {1: 1.2, 2: 2.0}  # by the number of updates: some are clipped, some are not
STEPS = TypeAdapter(list[list[Segment]])


def train(
    folder: Path,
    steps: list[list[Segment]],
    shares: tuple[int, ...],
    *,
    beta: float,
    num_updates: int,
    resume: bool = False,
) -> Any:
    """Train on this process's share of each step's rows; return gradients, update and facts.

    With `resume` only the last step is trained, from the checkpoint before it.
    """
    rank = int(os.environ.get("RANK", "0"))
    start, end = sum(shares[:rank]), sum(shares[: rank + 1])

    def rollouts(request: StepRequest, acting: Any) -> RolloutBatch:
        with torch.no_grad():
            for _ in range(rank + 1):  # processes act for different numbers of turns
                acting(input_ids=torch.arange(8)[None])
        places = range(start, end)  # each row is a group of its own
        return RolloutBatch(
            [
                [steps[request.step][place] for place in places if place % num_updates == number]
                for number in range(num_updates)
            ]
        )

    model = tiny_policy.policy()
    before = detached(tiny_policy.trainable(model))
    trainer = tiny_policy.trainer(
        model,
        folder,
        rollouts,
        beta=beta,
        tokens_per_microbatch=TOKENS_PER_MICROBATCH,
        max_steps=NUM_STEPS,
        save_steps=SAVED,
        max_grad_norm=CLIP_NORMS[num_updates],
        importance="token_truncate" if num_updates > 1 else "off",
    )
    gradients = record_gradients(trainer)
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{SAVED}") if resume else None)
    with whole_weights(trainer):
        after = detached(tiny_policy.trainable(model))
    return {
        "gradients": gradients,
        "update": {name: after[name] - before[name] for name in before},
        "world_size": trainer.accelerator.num_processes,
        "kind": str(trainer.accelerator.distributed_type),
        "num_microbatches": [row["num_microbatches"] for row in trainer.state.log_history[:-1]],
        "grad_norms": [row["grad_norm"] for row in trainer.state.log_history[:-1]],
        "shard_sizes": [
            parameter.ds_tensor.numel() / parameter.ds_numel
            for parameter in tiny_policy.trainable(model).values()
            if hasattr(parameter, "ds_tensor")
        ],
    }


def record_gradients(trainer: Any) -> list[dict[str, Tensor]]:
    """Keep what each update's gradients are before they are clipped."""
    found: list[dict[str, Tensor]] = []
    step, clip = trainer.training_step, trainer._clip_grad_norm

    def recording_clip(model: Any) -> Any:
        if not trainer.is_deepspeed_enabled:
            found.append(tiny_policy.gradients(trainer.model))
        return clip(model)

    def recording_step(model: Any, *rest: Any) -> Tensor:
        if not trainer.is_deepspeed_enabled:
            return step(model, *rest)
        from deepspeed.utils import safe_get_full_grad

        update = model.step  # DeepSpeed clips, updates and forgets in one

        def recording_update(*args: Any) -> Any:
            trainable = tiny_policy.trainable(trainer.model)
            found.append({name: safe_get_full_grad(p).clone() for name, p in trainable.items()})
            return update(*args)

        model.step = recording_update
        try:
            return step(model, *rest)
        finally:
            model.step = update

    trainer._clip_grad_norm, trainer.training_step = recording_clip, recording_step
    return found


def detached(parameters: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def play_held_out(line: list[str], *, out: Path) -> None:
    """Play held-out tasks with scripts, and dev tasks with the base, each process its share."""
    processes = PartialState()
    command = parse([*line, "--evaluate.split=train", "--policies", "noop", "gold"])
    folder = stage_dir(command.settings, "evaluate").path
    stage = StageDir(folder, "evaluate", is_main=processes.is_main_process)
    now = datetime.now()
    evaluate(command.settings, stage, plan_evaluation(command.settings, now=now), now=now)
    facts = measure_gate(command.settings, load_base(command.settings))
    (out / f"gate-{processes.process_index}.json").write_text(json.dumps(facts))


def train_on_servers(line: list[str], *, out: Path) -> None:
    """Train on what a server of the test has sampled; then write down how two other runs end."""
    (url,) = json.loads((out / "servers.json").read_text())
    short = ("--context.max_new_tokens=16", "--rollouts.max_staleness=0")
    command = parse([*line, f"--run.name={out.name}-served", *short, f"--rollouts.servers=[{url}]"])
    stage = recipe.open_grpo(command)
    with open_tracker(command.settings, stage, step=0) as report:
        recipe.train(command, stage, report)
    told = [how_it_ends(line, "--rollouts.servers=[http://127.0.0.1:9]", out=out)]
    python, port = out / "python", (out / "port").read_text()
    own = ("--rollouts.start=1", f"--rollouts.python={python}", f"--rollouts.port={port}")
    told += [] if uses_deepspeed() else [how_it_ends(line, *own, out=out)]
    rank = PartialState().process_index
    (out / f"served-{rank}.json").write_text(json.dumps(told))


def how_it_ends(line: list[str], *overrides: str, out: Path) -> str:
    """Let the second process lose the server of a run; return with what error this one ends."""
    settings = parse([*line, *overrides]).settings
    rank = PartialState().process_index
    stage = StageDir(out / "ends" / "grpo", "grpo", is_main=rank == 0)
    trainer = tiny_policy.trainer(tiny_policy.policy(), out / "ends", tiny_policy.always([]))
    try:
        with open_backend(settings, stage) as acting, acting(trainer) as served:
            (url,) = served.urls
            for _ in range(2) if rank == 0 else ():  # the second is its replacement
                until(lambda: is_ready(url))
                os.kill(pid_of(url), signal.SIGKILL)
                until(lambda: not is_ready(url))
            until(lambda: url in served.given_up())
            served.lost.update(served.urls if rank else ())
    except (UserError, InfrastructureError) as error:
        return str(error)
    return "fine"


def main(out: str, rows: str, *line: str) -> int:
    processes = join(world_size=int(os.environ["WORLD_SIZE"]))
    play_held_out(list(line), out=Path(out))  # first: a trainer's ZeRO-3 shards all that is loaded
    steps = STEPS.validate_json(Path(rows).read_text())
    for shares in SPLITS:
        name = ":".join(map(str, shares))
        how = {"beta": KL_WEIGHTS[shares], "num_updates": UPDATES[shares]}
        result = train(Path(out) / name, steps, shares, **how)
        if KL_WEIGHTS[shares]:  # the reference must not be what was resumed
            result["resumed"] = train(Path(out) / name, steps, shares, **how, resume=True)["update"]
        torch.save(result, Path(out) / f"{name}-{processes.process_index}.pt")
    train_on_servers(list(line), out=Path(out))
    code = grpo.main(list(line))
    assert PartialState().num_processes == int(os.environ["WORLD_SIZE"])
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
