"""Multi-segment GRPO: TRL's trainer fed with rows of our own making; all that knows TRL's insides.

Stock TRL trains one append-only token stream per rollout, one row each. An episode that rewrites
its context is several streams with one advantage. So two methods are overridden: `_prepare_inputs`
calls `rollouts` for scored rows, `training_step` feeds them in micro-batches under a token budget.
The loss is TRL's own `_compute_loss`, divided by the sampled tokens of the whole update, so neither
the cut into micro-batches nor into segments changes the gradient. In TRL's eyes one step is one
micro-batch.

Every rank runs the same number of micro-batches with the same number of rows (TRL gathers numbers
per row; else collectives hang); the missing rows are fillers, real tokens without loss. Gradients
synchronise on the last micro-batch only. A step in which no rank has a row is skipped, so that the
optimizer's momentum does not move the adapter. Written against TRL 1.16;
tests/train/rl/test_parity.py compares with the stock trainer. Not covered: FSDP, evaluation inside
the trainer, router losses.

Shapes: B rows, T tokens, P prompt tokens (T = P + completion).
"""

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from envs.errors import UserError
from envs.records import Segment
from train.config.settings import Settings
from train.config.trl_arguments import EPSILON_HIGH, with_defaults
from train.models.distributed import autocast_deepspeed, whole_weights
from train.models.model import hold_adapter_in_float32
from train.rl.checkpoints import WholeCheckpoints
from train.rl.segments import size_microbatches
from train.rl.shared_arguments import derive_shared_arguments

OldLogps = Literal["detach", "sampling"]

# Any other value would make the gradient depend on how rows are cut, or need what we do not feed.
REQUIRED_ARGS: dict[str, Any] = {
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 1,
    "num_iterations": 1,
    "importance_sampling_level": "token",
    "top_entropy_quantile": 1.0,
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
    "off_policy_mask_threshold": None,
    "router_aux_loss_coef": 0.0,
    "use_vllm": False,
}

_FIXED_ARGS: dict[str, Any] = {
    "scale_rewards": "none",
    "shuffle_dataset": False,  # `make_step_dataset` is the order
    "lr_scheduler_type": "constant_with_warmup",
    "logging_steps": 1,
    "logging_nan_inf_filter": False,  # a NaN loss must show
}


@dataclass(frozen=True)
class StepRequest:
    """What one rank rolls out in one step: a whole group of episodes per task id.

    `step` counts the optimizer steps done, so it is also the policy version. `first_group` is the
    place of `task_ids[0]` among the groups of all ranks in this step: with `step` it names a group
    uniquely, even where a task occurs twice.
    """

    step: int
    first_group: int
    task_ids: tuple[str, ...]


@dataclass(frozen=True)
class RolloutBatch:
    """Scored rows of one rank, e.g. `RolloutBatch(rows, 812, {"pass_rate": 0.5})`.

    `num_sampled_tokens` counts this rank's scorable episodes, those without advantage included: its
    sum over ranks is the denominator of the loss. `metrics` are logged as they are, from the main
    process.
    """

    rows: Sequence[Segment]
    num_sampled_tokens: int
    metrics: dict[str, float] = field(default_factory=dict)


def derive_grpo_config(settings: Settings, folder: Path) -> GRPOConfig:
    """Derive TRL's arguments; those of `grpo.trl` win (see `train/config/trl_arguments.py`).

    Args:
        settings: The experiment.
        folder: Where checkpoints go.

    Raises:
        UserError: TRL refuses a value of `grpo.trl`, or a tracker is not installed.
    """
    grpo = settings.grpo
    derived = {
        **derive_shared_arguments(settings, folder),
        **_FIXED_ARGS,
        **REQUIRED_ARGS,
        "run_name": settings.run.name,
        "per_device_train_batch_size": (
            grpo.groups_per_step // PartialState().num_processes * grpo.group_size
        ),
        "num_generations": grpo.group_size,
        "beta": grpo.kl_weight,
        "max_steps": grpo.max_steps,
        "learning_rate": grpo.learning_rate,
        "save_steps": settings.checkpoints.every,
    }
    try:
        args = GRPOConfig(**derived | with_defaults(grpo.trl))
        for tracker in get_reporting_integration_callbacks(args.report_to):
            tracker()  # is its package there? else said after the model is loaded
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise UserError(
            "TRL refuses its arguments",
            got=" ".join(str(error).split())[:300],
            remedy=f"correct or leave out one of grpo.trl: {', '.join(grpo.trl)}",
        ) from error
    autocast_deepspeed(args, bf16=settings.model.precision == "bf16")
    return args


def make_step_dataset(
    task_ids: Sequence[str], *, num_steps: int, groups_per_step: int, seed: int
) -> Dataset:
    """Return the tasks of all steps in order, one row per group, as passes in an order drawn anew.

    The whole run is one epoch of this, so a resumed run goes on with the very next group (after a
    resume TRL's sampler would draw the first epoch again), and a step's tasks do not depend on the
    number of ranks.
    """
    order: list[str] = []
    for number in range(-(-num_steps * groups_per_step // len(task_ids))):
        order += random.Random(f"{seed}/{number}").sample(task_ids, len(task_ids))
    return Dataset.from_dict({"task_id": order[: num_steps * groups_per_step]})


class MultiSegmentGRPOTrainer(WholeCheckpoints, GRPOTrainer):
    """TRL's GRPO on rows that `rollouts` has sampled, scored per episode, and cut into segments.

    Args:
        model: The policy: a `PeftModel`, whose adapter as loaded now is copied as the KL reference
            if `args.beta` is not 0.
        args: From `derive_grpo_config`.
        train_dataset: From `make_step_dataset`.
        processing_class: The tokenizer (for its padding id).
        rollouts: Called once per step on every rank, with the whole model in eval mode.
        tokens_per_microbatch: Most tokens of one rank's micro-batch, padding included.
        old_logps: What the ratio compares with: `detach`, the policy itself (exactly on-policy), or
            `sampling`, the log-probs recorded when the tokens were sampled.
        callbacks: As for the stock trainer.

    Raises:
        UserError: If an argument would make the gradient depend on how rows are cut.
    """

    def __init__(
        self,
        model: PreTrainedModel | torch.nn.Module,
        *,
        args: GRPOConfig,
        train_dataset: Dataset,
        processing_class: PreTrainedTokenizerBase,
        rollouts: Callable[[StepRequest, Any], RolloutBatch],
        tokens_per_microbatch: int,
        old_logps: OldLogps = "detach",
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        if args.loss_type not in EPSILON_HIGH:
            raise UserError(
                "this loss would weigh an episode by its number of rows",
                got=args.loss_type,
                remedy=f"set grpo.trl.loss_type to one of {', '.join(EPSILON_HIGH)}",
            )
        for name, value in REQUIRED_ARGS.items():
            if (got := getattr(args, name)) != value:
                raise UserError(f"{name} is fixed", got=str(got), remedy=f"set it to {value}")
        super().__init__(
            model=model,
            reward_funcs=_scored_by_rollouts,
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
        )
        hold_adapter_in_float32(self.model)
        self.remove_callback(PrinterCallback)
        self.rollouts = rollouts
        self.tokens_per_microbatch = tokens_per_microbatch
        self.old_logps = old_logps
        self.current_gradient_accumulation_steps = 1

    def _prepare_inputs(self, generation_batch: list[dict[str, str]]) -> list[dict[str, Any]]:
        """Roll out this rank's groups and return its micro-batches in the form of TRL's loss."""
        task_ids = tuple(row["task_id"] for row in generation_batch[:: self.num_generations])
        first_group = self.accelerator.process_index * len(task_ids)
        self.model.eval()
        request = StepRequest(self.state.global_step, first_group, task_ids)
        with whole_weights(self) as model:
            batch = self.rollouts(request, model)
        self.model.train()
        chunks, num_items = self._cut(batch)
        for name, value in batch.metrics.items():
            self._log_train(name, value)
        self._log_train("num_sampled_tokens", num_items.item())
        self._log_train("num_microbatches", len(chunks))
        return [self._stack(chunk, num_items) for chunk in chunks]

    def _cut(self, batch: RolloutBatch) -> tuple[list[list[Segment]], torch.Tensor]:
        """Return this rank's micro-batches, of sizes all ranks agree on, and the denominator."""
        rows = [row for row in batch.rows if row.advantage != 0.0 or self.beta != 0.0]
        rows.sort(key=lambda row: len(row.token_ids_T), reverse=True)
        counts = torch.tensor([[len(rows), batch.num_sampled_tokens]], device=self.args.device)
        counts = self.accelerator.gather(counts)
        num_rows, num_items = int(counts[:, 0].max()), counts[:, 1].sum().float()
        rows += [self._filler(batch.rows)] * (num_rows - len(rows))
        if not rows:
            return [], num_items
        lengths = torch.tensor([[len(row.token_ids_T) for row in rows]], device=self.args.device)
        longest = self.accelerator.gather(lengths).amax(dim=0).tolist()
        rest = iter(rows)
        sizes = size_microbatches(longest, max_tokens=self.tokens_per_microbatch)
        return [list(islice(rest, size)) for size in sizes], num_items

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: list[dict[str, str]],
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Roll out, then accumulate one update's gradient over micro-batches; return the loss."""
        started = time.perf_counter()
        chunks = self._prepare_inputs(inputs)
        rolled_out = time.perf_counter()
        model.train()
        self._add_reference(chunks)
        total = torch.zeros((), device=self.args.device)
        outer, self._metrics["train"] = self._metrics["train"], defaultdict(list)
        for index, chunk in enumerate(chunks):
            is_last = index == len(chunks) - 1
            # DDP reads no_sync in its forward; DeepSpeed's engine steps in a backward that syncs
            self.accelerator.gradient_state._set_sync_gradients(is_last)
            with nullcontext() if is_last else self.accelerator.no_sync(model):
                loss = self.compute_loss(model, chunk)
                options = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
                self.accelerator.backward(loss, **options)
            total += loss.detach()
        per_chunk, self._metrics["train"] = self._metrics["train"], outer
        self._log_weighted(per_chunk, chunks)
        self._step += 1
        self._log_train("seconds/rollout", rolled_out - started)
        self._log_train("seconds/learn", time.perf_counter() - rolled_out)
        return total

    def _stack(self, rows: Sequence[Segment], num_items: torch.Tensor) -> dict[str, Any]:
        """Pad rows on the right into TRL's form, cut at one P for all, before any loss."""
        prompt_end = min(
            (row.loss_mask_T.index(1) for row in rows if any(row.loss_mask_T)), default=1
        )
        width = max(len(row.token_ids_T) for row in rows)

        def padded(values: Sequence[Sequence[float]], fill: float) -> torch.Tensor:
            lists = [[*value, *[fill] * (width - len(value))] for value in values]
            return torch.tensor(lists, device=self.args.device)

        ids_BT = padded([row.token_ids_T for row in rows], self._tokenizer.pad_token_id)
        mask_BT = padded([[1] * len(row.token_ids_T) for row in rows], 0)
        stacked = {
            "prompt_ids": ids_BT[:, :prompt_end],
            "prompt_mask": mask_BT[:, :prompt_end],
            "completion_ids": ids_BT[:, prompt_end:],
            "completion_mask": mask_BT[:, prompt_end:],
            "tool_mask": padded([row.loss_mask_T for row in rows], 0)[:, prompt_end:],
            "advantages": torch.tensor([row.advantage for row in rows], device=self.args.device),
            "num_items_in_batch": num_items,
        }
        if self.old_logps == "sampling":
            logps_BT = padded([row.sampling_logps_T for row in rows], 0.0)
            stacked["old_per_token_logps"] = logps_BT[:, prompt_end:]
        return stacked

    def _add_reference(self, chunks: list[dict[str, Any]]) -> None:
        """Add the frozen reference's log-probs, before any backward: it swaps adapters."""
        if self.beta == 0.0 or not chunks:
            return
        model = self.accelerator.unwrap_model(self.model)
        reference = use_adapter(model, "ref" if "ref" in model.peft_config else None)
        options = self.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(self.model, options), reference:
            for chunk in chunks:
                ids_BT = torch.cat([chunk["prompt_ids"], chunk["completion_ids"]], dim=1)
                mask_BT = torch.cat([chunk["prompt_mask"], chunk["completion_mask"]], dim=1)
                num_scored = chunk["completion_ids"].shape[1]
                scores = self._get_per_token_logps_and_entropies(
                    self.model, ids_BT, mask_BT, num_scored
                )
                chunk["ref_per_token_logps"] = scores[0]

    def _filler(self, rows: Sequence[Segment]) -> Segment:
        """Return a short row of real tokens without loss (ends of text if this rank has none)."""
        no_rows = (self._tokenizer.eos_token_id,) * 2
        ids = min((row.token_ids_T for row in rows), key=len, default=no_rows)
        zeros = (0,) * len(ids)
        return Segment(
            episode_id="",
            token_ids_T=ids,
            loss_mask_T=zeros,
            sampling_logps_T=tuple(map(float, zeros)),
            advantage=0.0,
        )

    def _log_train(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)

    def _log_weighted(self, per_chunk: dict[str, list[float]], chunks: list[Any]) -> None:
        """Fold TRL's metrics per micro-batch into one per step, weighted by tokens with loss."""
        if not chunks:
            return
        counts = torch.stack([chunk["tool_mask"].sum() for chunk in chunks])
        weights = self.accelerator.reduce(counts, reduction="sum").tolist()
        for name, values in per_chunk.items():
            pairs = [(v, w) for v, w in zip(values, weights, strict=True) if not math.isnan(v)]
            if name.endswith(("_min", "_max")):
                extreme = min if name.endswith("_min") else max
                self._log_train(name, extreme((v for v, _ in pairs), default=math.nan))
            else:
                total = sum(v * w for v, w in pairs)
                self._log_train(name, total / max(1, sum(w for _, w in pairs)))


def _scored_by_rollouts(**_: Any) -> list[float]:
    raise AssertionError("`rollouts` scores; this only satisfies the stock trainer's constructor")
