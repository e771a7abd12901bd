"""GRPO: groups of episodes, one score and one advantage per episode, all its segments trained.

    accelerate launch train/grpo.py --config configs/tiny.yaml --grpo.learning_rate 2e-6

Goes on with the SFT adapter (or puts a fresh one on the tiny model's base), refuses a warm start
that cannot be improved by RL (`--force` overrides), and writes every episode and one metrics row
per step to runs/NAME/grpo.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: look from the repository root, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import json
from typing import TYPE_CHECKING, Any

from envs.errors import UserError
from train.load import Command, parse_command, run_main

if TYPE_CHECKING:
    from envs.records import Episode, Score
    from train.grpo_trainer import RolloutBatch, RolloutRequest
    from train.rollouts import Arena
    from train.run_dir import StageDir
    from train.settings import Settings

EXAMPLE = "accelerate launch train/grpo.py --config configs/tiny.yaml --grpo.learning_rate 2e-6"
GATE_PASS_RATE = (0.20, 0.80)  # below: no group has signal; above: nothing is left to learn
GATE_REWRITE_SHARE = 0.05  # of forced-window episodes must evict, and as many compact


def main(argv: list[str]) -> int:
    """Run the stage; heavy imports wait until the command line is known to be right."""
    command = parse_command(
        argv,
        prog="accelerate launch train/grpo.py",
        description="Multi-segment GRPO with LoRA.",
        example=EXAMPLE,
    )
    from train.run_dir import open_stage, require

    settings, config = command.settings, command.config
    tasks = require(settings, "tasks", config=config)
    if command.dry_run:
        from train.dry_run import show

        return show(command, stage="grpo", tasks=tasks)
    inputs = [tasks]
    if settings.grpo.start_from == "sft":
        inputs.append(require(settings, "sft", config=config))
        check_gate(inputs[-1], force=command.force)
    from accelerate import PartialState

    processes = PartialState(cpu=bool(settings.run.cpu))
    stage = open_stage(
        settings,
        "grpo",
        resume=command.resume,
        clean=command.clean,
        is_main=processes.is_main_process,
        inputs=inputs,
    )
    processes.wait_for_everyone()  # the main process may have deleted the last run
    if not stage.is_done():
        train(command, stage)
    return 0


def check_gate(sft: "StageDir", *, force: bool) -> None:
    """Refuse a warm start that RL cannot use; with `force` say so and go on.

    Raises:
        UserError: The pass rate leaves no signal, or too few forced episodes rewrite their context.
    """
    facts = json.loads(sft.done.read_text(encoding="utf-8"))
    low, high = GATE_PASS_RATE
    problems = []
    if not low <= facts["dev_pass_rate"] <= high:
        problems.append(f"dev pass rate {facts['dev_pass_rate']:.0%}, not {low:.0%} to {high:.0%}")
    for name in ("compact", "evict"):
        share = facts[f"forced_{name}_share"]
        if facts["dev_forced"] and share < GATE_REWRITE_SHARE:
            problems.append(f"{share:.0%} of {facts['dev_forced']} forced episodes {name}")
    if not problems:
        return
    text = "; ".join(problems)
    if not force:
        raise UserError(
            "the warm start is outside the gate for GRPO",
            got=text,
            remedy=(
                "train it longer or shorter (sft.epochs), make more demonstrations "
                "(sft.num_demonstrations, sft.forced_share), or pass --force"
            ),
        )
    sys.stderr.write(f"gate passed by --force: {text}\n")


def train(command: Command, stage: "StageDir") -> None:
    """Build everything, train, save the adapter."""
    from train.arena import open_arena
    from train.grpo_trainer import MultiSegmentGRPOTrainer, step_dataset
    from train.model import load_tokenizer, run_tokenizer, set_up_torch
    from train.progress import Progress
    from train.recorder import StepRecorder
    from train.sft import last_checkpoint

    set_up_torch(command.settings)
    settings, grpo = command.settings, command.settings.grpo
    tokenizer = load_tokenizer(run_tokenizer(settings))
    model = starting_model(settings)
    with (
        open_arena(settings) as arena,
        Progress("GRPO", total=grpo.max_steps, unit="steps", enabled=stage.is_main) as progress,
    ):
        rollouts = Rollouts(settings, arena, stage, progress)
        announce(settings, model, stage, arena)
        trainer = MultiSegmentGRPOTrainer(
            model,
            args=trainer_args(settings, stage),
            train_dataset=step_dataset(
                [task.id for task in arena.store.split("train")],
                num_steps=grpo.max_steps,
                groups_per_step=grpo.groups_per_step,
                seed=settings.run.seed,
            ),
            processing_class=tokenizer,
            rollouts=rollouts,
            tokens_per_microbatch=grpo.tokens_per_microbatch,
            callbacks=[StepRecorder(stage, progress, describe=describe, print_rows=True)],
        )
        rollouts.attach(trainer)
        checkpoint = last_checkpoint(stage) if command.resume else None
        state = Path(checkpoint or "") / "trainer_state.json"
        stage.rewind(json.loads(state.read_text())["global_step"] if checkpoint else 0)
        trainer.accelerator.wait_for_everyone()
        if checkpoint:
            rollouts.restore()
        trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.accelerator.is_main_process:
        unwrapped = trainer.accelerator.unwrap_model(trainer.model)
        unwrapped.save_pretrained(str(stage.path / "adapter"), selected_adapters=["default"])
    stage.finish({"steps": trainer.state.global_step}, output=stage.path / "adapter")


def starting_model(settings: "Settings") -> Any:
    """Return the policy to train: the SFT adapter goes on; tiny and `base` get a fresh one."""
    from train.model import add_adapter, load_adapter, load_base
    from train.run_dir import stage_dir

    base, start = load_base(settings), settings.grpo.start_from
    if start == "base" or (start == "sft" and settings.model.kind == "tiny"):
        return add_adapter(base, settings)
    folder = stage_dir(settings, "sft").path / "adapter" if start == "sft" else Path(start)
    return load_adapter(base, folder, trainable=True)


def trainer_args(settings: "Settings", stage: "StageDir") -> Any:
    """Derive TRL's arguments from ours."""
    import torch
    from accelerate import PartialState

    from train.grpo_trainer import grpo_config

    grpo = settings.grpo
    return grpo_config(
        stage.checkpoints,
        groups_per_step=grpo.groups_per_step,
        group_size=grpo.group_size,
        max_steps=grpo.max_steps,
        learning_rate=grpo.learning_rate,
        warmup_steps=grpo.warmup_steps,
        save_steps=grpo.save_every,
        seed=settings.run.seed,
        bf16=grpo.precision == "bf16",
        use_cpu=bool(settings.run.cpu) or not torch.cuda.is_available(),
        world_size=PartialState().num_processes,
        loss_type=grpo.loss_type,
        epsilon=grpo.epsilon,
        epsilon_high=grpo.epsilon_high,
        beta=grpo.kl_weight,
        activation_checkpointing=settings.model.gradient_checkpointing,
        keep_checkpoints=grpo.keep_checkpoints,
    )


class Rollouts:
    """Plays one step's groups, scores them, saves them, and returns training rows."""

    def __init__(
        self, settings: "Settings", arena: "Arena", stage: "StageDir", progress: Any
    ) -> None:
        from rewards.advantages import RunningCap

        self._settings, self._arena, self._stage = settings, arena, stage
        self._progress, self._cap = progress, RunningCap()
        self._trainer: Any = None

    def attach(self, trainer: Any) -> None:
        """Name the trainer whose model acts."""
        self._trainer = trainer

    def __call__(self, request: "RolloutRequest") -> "RolloutBatch":
        """Play the groups of one rank in one step; see `train.grpo_trainer.RolloutRequest`."""
        from accelerate.utils import gather_object

        from rewards.cost import sampled_tokens
        from rewards.metrics import step_metrics
        from rewards.outcome import is_scorable
        from train.grpo_trainer import RolloutBatch
        from train.segments import episode_rows

        groups = self._play(request)
        scored = [(group, self._score(group)) for group in groups]
        everyone = gather_object(scored)
        everything = [episode for group, _ in everyone for episode in group]
        self._cap = self._cap.updated(everything)
        self._save(request.step + 1, everything)
        pairs = [pair for group, marks in scored for pair in zip(group, marks, strict=True)]
        return RolloutBatch(
            rows=[row for e, s in pairs for row in episode_rows(e, advantage=s.advantage)],
            num_sampled_tokens=sum(sampled_tokens(e) for e, _ in pairs if is_scorable(e)),
            metrics=step_metrics([g for g, _ in everyone], [s for _, s in everyone]),
        )

    def _play(self, request: "RolloutRequest") -> "list[list[Episode]]":
        from train.generate import engine_for
        from train.rollouts import group_requests, model_policy

        settings, step, size = self._settings, request.step, self._settings.grpo.group_size
        model = self._trainer.accelerator.unwrap_model(self._trainer.model)
        engine = engine_for(model, self._arena.chat, settings)
        requests = group_requests(
            settings,
            request.task_ids,
            stage="grpo",
            step=step,
            group_size=size,
            first_group=request.first_group,
        )
        num_played = 0

        def count(*_: object) -> None:
            nonlocal num_played
            num_played += 1
            note = f"step {step + 1}: {num_played}/{len(requests)} episodes"
            self._progress.update(step, note=note)

        episodes = self._arena.play_all(
            requests,
            model_policy(engine),
            policy="grpo",
            policy_version=step,
            concurrency=settings.grpo.generation_batch,
            engine=engine,
            on_episode=count,
        )
        return [episodes[i : i + size] for i in range(0, len(episodes), size)]

    def _score(self, group: "list[Episode]") -> "list[Score]":
        from rewards.advantages import score_group

        reward = self._settings.reward
        return score_group(
            group,
            method=reward.advantage,
            outcome=reward.outcome,
            cost=reward.cost,
            cost_weight=reward.cost_weight,
            sampled_cap=self._cap.tokens,
        )

    def restore(self) -> None:
        """Rebuild the running cap from the episodes of the steps before a resume."""
        from envs.records import Episode

        for path in sorted(self._stage.episodes.glob("step_*.jsonl")):
            lines = path.read_text(encoding="utf-8").splitlines()
            self._cap = self._cap.updated([Episode.model_validate_json(line) for line in lines])

    def _save(self, step: int, episodes: "list[Episode]") -> None:
        self._stage.write_episodes(step, (episode.model_dump_json() for episode in episodes))


def announce(settings: "Settings", model: Any, stage: "StageDir", arena: "Arena") -> None:
    """Say what is about to be trained, and how."""
    from train.model import count_parameters

    count, grpo = count_parameters(model), settings.grpo
    if stage.is_main:
        sys.stderr.write(
            f"{settings.model.base}: {count.total:,} parameters, {count.trainable:,} trainable "
            f"({count.share:.2%}); {len(arena.store.split('train')):,} tasks; "
            f"{grpo.groups_per_step} groups x {grpo.group_size} = "
            f"{grpo.groups_per_step * grpo.group_size} episodes per step; writes {stage.path}\n"
        )


def describe(row: dict[str, Any]) -> str:
    """One line per step: what the policy did and what was learned from it."""
    stops = {k.removeprefix("stop/"): v for k, v in row.items() if k.startswith("stop/") and v}
    per_solved = row.get("tokens_per_solved")
    parts = [
        f"pass {row.get('pass_rate', 0):.2f}",
        f"tokens/solved {per_solved:.0f}" if per_solved is not None else "tokens/solved -",
        f"peak {row.get('peak_context', 0):.0f}",
        f"segments {row.get('segments_per_episode', 0):.2f}",
        f"no signal {row.get('share_groups_without_signal', 0):.0%}",
        " ".join(f"{name} {share:.0%}" for name, share in stops.items()),
        f"grad {row.get('grad_norm', 0):.2f}",
        f"entropy {row.get('entropy', float('nan')):.2f}",
        f"{row.get('seconds/rollout', 0):.0f}+{row.get('seconds/learn', 0):.0f} s",
    ]
    return " | ".join(parts)


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
