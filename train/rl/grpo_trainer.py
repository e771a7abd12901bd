"""Multi-segment GRPO: TRL's trainer fed with rows of our own making; all that knows TRL's insides.

Stock TRL trains one append-only token stream per rollout, one row each. An episode that rewrites
its context is several streams with one advantage. So two methods are overridden: `_prepare_inputs`
calls `rollouts` for scored rows, `training_step` feeds them in micro-batches under a token budget.
The loss is TRL's own `_compute_loss`, divided by the sampled tokens of the whole update, so neither
the cut into micro-batches nor into segments changes the gradient. In TRL's eyes one step is one
micro-batch. Log-probs are computed in our way and handed over in TRL's form: what rows begin with
alike once (`train/rl/packed_rows.py`), and the head where it counts only
(`train/models/scored_head.py`).

A rollout is one step, of one update or several: each takes a minibatch of whole groups, and from
the second on the loss compares with log-probs taken before the first, by a pass without gradient.
The first update's own forward is such a pass. The same log-probs give the weights that make up for
a sampler which computes differently (`train/rl/importance.py`). Checkpoints lie between steps, so
between rollouts.

Every rank runs the same number of micro-batches with the same number of rows (TRL gathers numbers
per row; else collectives hang); the missing rows are fillers, real tokens without loss. Gradients
synchronise on an update's last micro-batch only. An update for which no rank has a row is skipped,
so that the optimizer's momentum does not move the adapter. Written against TRL 1.16;
tests/train/rl/test_parity.py compares with the stock trainer. Not covered: FSDP, evaluation inside
the trainer, router losses.

Shapes: B rows, T tokens, P prompt tokens (T = P + completion).
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from peft.helpers import disable_input_dtype_casting
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from envs.errors import UserError
from envs.records import Segment
from train.config.trl_arguments import EPSILON_HIGH
from train.models.distributed import whole_weights
from train.models.model import hold_adapter_in_float32
from train.models.scored_head import add_scored_head
from train.rl.checkpoints import WholeCheckpoints
from train.rl.grpo_arguments import REQUIRED_ARGS
from train.rl.importance import Form, describe_mismatch, no_mismatch, sum_mismatch, weigh
from train.rl.metrics_callback import fold_microbatches
from train.rl.packed_rows import (
    can_pack,
    describe_rows,
    lay_out_packed,
    lay_out_padded,
    let_attend,
)
from train.rl.segments import make_filler, size_microbatches, size_packed
from train.rollouts.backend import Acting

Chunk = dict[str, Any]  # a micro-batch in the form of TRL's loss


@dataclass(frozen=True)
class StepRequest:
    """What one rank trains on in one step: so many whole groups of episodes.

    `step` counts the rollouts trained on, so it is also the policy version. `first_group` is the
    place of the first one among the groups of all ranks in this step: with `step` it names a group
    uniquely, even where a task occurs twice. Which tasks these are: `train/rl/task_draws.py`.
    """

    step: int
    first_group: int
    num_groups: int


@dataclass(frozen=True)
class RolloutBatch:
    """Scored rows of one rank, e.g. `RolloutBatch([rows], {"pass_rate": 0.5})` for one update.

    A minibatch is trained on in one update; all ranks have the same number of them, and whether
    rows share one must not depend on the number of ranks. Rows without advantage belong to it: the
    sampled tokens of all its rows on all ranks are the denominator of the loss. `metrics` are
    logged as they are, from the main process.
    """

    minibatches: Sequence[Sequence[Segment]]
    metrics: dict[str, float] = field(default_factory=dict)


def make_step_dataset(*, num_steps: int, groups_per_step: int) -> Dataset:
    """Return what TRL goes through: a row for each group of the run, which holds its place only.

    The whole run is one epoch of this, so a resumed run goes on with the very next step.
    """
    return Dataset.from_dict({"group": range(num_steps * groups_per_step)})


class MultiSegmentGRPOTrainer(WholeCheckpoints, GRPOTrainer):
    """TRL's GRPO on rows that `rollouts` has sampled, scored per episode, and cut into segments.

    Args:
        model: The policy: a `PeftModel`, whose adapter as loaded now is copied as the KL reference
            if `args.beta` is not 0.
        args: From `train/rl/grpo_arguments.py`.
        train_dataset: From `make_step_dataset`.
        processing_class: The tokenizer (for its padding id).
        rollouts: Called once per step on every rank, with what `acting` yields.
        tokens_per_microbatch: Most tokens of one rank's micro-batch that are computed.
        importance: Weights of tokens, for a sampler that computes differently.
        acting: Yields what `rollouts` plays with (`train/rollouts/backend.py`).
        callbacks: As for the stock trainer.
        packs: Whether rows share what they begin with; None: where the base allows it.

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
        importance: Form = "off",
        acting: Acting = whole_weights,
        callbacks: list[TrainerCallback] | None = None,
        packs: bool | None = None,
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
        self.importance = importance
        self.acting = acting
        self._norms: list[Any] = []  # of the gradients of this step's updates so far
        self._chunk: Chunk | None = None  # that is being scored
        self._is_proximal = False  # its log-probs in the loss are those before the first update
        base = self.model.get_base_model()
        add_scored_head(base)
        self.packs = can_pack(base, args.device) if packs is None else packs
        if self.packs:
            let_attend(base)
        self.current_gradient_accumulation_steps = 1

    def _prepare_inputs(self, generation_batch: list[dict[str, int]]) -> list[list[Chunk]]:
        """Roll out this rank's groups and return the micro-batches of each update."""
        num_groups = len(generation_batch) // self.num_generations
        first_group = self.accelerator.process_index * num_groups
        self.model.eval()
        request = StepRequest(self.state.global_step, first_group, num_groups)
        with self.acting(self) as model:
            batch = self.rollouts(request, model)
        self.model.train()
        cut = [self._cut(rows) for rows in batch.minibatches]
        for name, value in batch.metrics.items():
            self._log_train(name, value)
        self._log_train("num_sampled_tokens", sum(num.item() for _, num in cut))
        self._log_train("num_microbatches", sum(len(chunks) for chunks, _ in cut))
        return [[self._stack(rows, num_items) for rows in chunks] for chunks, num_items in cut]

    def _cut(self, minibatch: Sequence[Segment]) -> tuple[list[list[Segment]], torch.Tensor]:
        """Return this rank's micro-batches, of sizes all ranks agree on, and the denominator."""
        num_sampled = sum(sum(row.loss_mask_T) for row in minibatch)
        rows = [row for row in minibatch if row.advantage != 0.0 or self.beta != 0.0]
        # next to each other what begins alike, or, padded, what is as long; the longest first
        rows.sort(key=lambda r: r.token_ids_T if self.packs else (-len(r.token_ids_T),))
        counts = torch.tensor([[len(rows), num_sampled]], device=self.args.device)
        counts = self.accelerator.gather(counts)
        num_rows, num_items = int(counts[:, 0].max()), counts[:, 1].sum().float()
        filler = make_filler(minibatch, end_id=self._tokenizer.eos_token_id)
        rows += [filler] * (num_rows - len(rows))
        if not rows:
            return [], num_items
        facts = torch.tensor([describe_rows(rows)], device=self.args.device)
        facts, most = self.accelerator.gather(facts), self.tokens_per_microbatch
        if self.packs:
            sizes = size_packed(facts.tolist(), max_tokens=most)
        else:
            sizes = size_microbatches(facts[..., 0].amax(dim=0).tolist(), max_tokens=most)
        rest = iter(rows)
        return [list(islice(rest, size)) for size in sizes], num_items

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: list[dict[str, int]],
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Roll out, and accumulate the gradient of the last update, which the caller makes.

        Those before it are made here. Returns the mean of their losses.
        """
        started = time.perf_counter()
        minibatches = self._prepare_inputs(inputs)
        rolled_out = time.perf_counter()
        model.train()
        chunks = [chunk for minibatch in minibatches for chunk in minibatch]
        self._mismatch = torch.stack([no_mismatch(self.args.device)] * 2)  # of this version, stale
        self._add_reference(model, chunks)
        self._add_proximal(model, [chunk for part in minibatches[1:] for chunk in part])
        total = torch.zeros((), device=self.args.device)
        outer, self._metrics["train"] = self._metrics["train"], defaultdict(list)
        for number, minibatch in enumerate(minibatches):
            if number and minibatches[number - 1]:
                self._update(model)
            total += self._accumulate(model, minibatch, is_first=not number)
        per_chunk, self._metrics["train"] = self._metrics["train"], outer
        self._log_folded(per_chunk, chunks)
        sums = self.accelerator.reduce(self._mismatch, reduction="sum")
        for is_stale, sums_S in enumerate(sums):
            found = describe_mismatch(sums_S, form=self.importance, is_stale=bool(is_stale))
            for name, value in found.items():
                self._log_train(name, value)
        self._step += 1
        self._log_train("seconds/rollout", rolled_out - started)
        self._log_train("seconds/learn", time.perf_counter() - rolled_out)
        return total / max(1, len(minibatches))

    def _accumulate(
        self, model: torch.nn.Module, chunks: Sequence[Chunk], *, is_first: bool
    ) -> torch.Tensor:
        """Accumulate one update's gradient over its micro-batches; return the loss."""
        total = torch.zeros((), device=self.args.device)
        for index, chunk in enumerate(chunks):
            is_last = index == len(chunks) - 1
            self._chunk, self._is_proximal = chunk, is_first
            # DDP reads no_sync in its forward; DeepSpeed's engine steps in a backward that syncs
            self.accelerator.gradient_state._set_sync_gradients(is_last)
            with nullcontext() if is_last else self.accelerator.no_sync(model):
                loss = self.compute_loss(model, chunk)
                options = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
                self.accelerator.backward(loss, **options)
            total += loss.detach()
        self._chunk, self._is_proximal = None, False
        return total

    def _update(self, model: torch.nn.Module) -> None:
        """Update the policy between two minibatches, as the caller does after the last.

        The schedule of the learning rate counts steps, so it stays where it is.
        """
        norm = None
        if self.args.max_grad_norm > 0:
            norm = self._clip_grad_norm(model)  # DeepSpeed's engine clipped and stepped in backward
        self._norms.append(super()._get_grad_norm(model, grad_norm=norm))
        self.optimizer.step()
        model.zero_grad()

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> float:
        """Return what is logged of a step: the largest norm of its updates, before clipping."""
        norms = [*self._norms, super()._get_grad_norm(model, grad_norm=grad_norm)]
        self._norms.clear()
        return torch.tensor([float(norm) for norm in norms]).max().item()  # NaN if one is

    def _get_per_token_logps_and_entropies(
        self, model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, num_scored: int, **_: Any
    ) -> Any:
        """Score as the stock trainer does, but only what was sampled; elsewhere are zeros.

        Of the first update these are the proximal log-probs.
        """
        chunk, is_scored_BT = self._chunk, mask_BT != 0
        is_scored_BT[:, :-num_scored] = False
        if chunk is not None:
            is_scored_BT[:, -num_scored:] &= chunk["tool_mask"].bool()
        layout = (lay_out_packed if self.packs else lay_out_padded)(ids_BT, mask_BT)
        places_N = layout.places_BT[:, :-1][is_scored_BT[:, 1:]]  # each token behind its context
        following_1N = ids_BT[is_scored_BT][None]
        with self.accelerator.autocast():
            # autocast turns back what the adapter's layers make float32, and both copies are kept;
            # computed again, outside of this, they would be others
            is_twice = torch.is_autocast_enabled(ids_BT.device.type)
            is_twice &= not self.model.is_activation_checkpointing
            with disable_input_dtype_casting(self.model, active=is_twice):
                outputs = model(
                    **layout.inputs,
                    places_N=places_N,
                    shift_labels=following_1N,
                    fused_lm_head=True,
                )
        zeros_BT = torch.zeros_like(ids_BT, dtype=torch.float32)
        logps_BT, entropies_BT = (
            zeros_BT.masked_scatter(is_scored_BT, each.float())[:, -num_scored:]
            for each in (outputs.log_probs, outputs.entropy)
        )
        if chunk is not None and self._is_proximal:
            self._weigh_tokens(chunk, logps_BT.detach())  # `_compute_loss` reads advantages later
        return logps_BT, entropies_BT, None

    def _weigh_tokens(self, chunk: Chunk, proximal_BT: torch.Tensor) -> None:
        """Compare with the sampler's log-probs, and fold the weights into the advantages."""
        sampled_BT = (chunk["completion_mask"] * chunk["tool_mask"]).bool()
        log_ratios_BT = (proximal_BT - chunk["sampling_logps"]).masked_fill(~sampled_BT, 0.0)
        is_stale_B = chunk["staleness"] > 0
        for place, rows_B in enumerate((~is_stale_B, is_stale_B)):
            log_ratios_N = log_ratios_BT[sampled_BT & rows_B[:, None]]
            self._mismatch[place] += sum_mismatch(log_ratios_N, form=self.importance)
        if self.importance != "off":
            weights_BT = weigh(log_ratios_BT, form=self.importance)
            advantages = chunk["advantages"]  # of tokens, where the rows weigh them
            advantages = advantages[:, None] if advantages.dim() == 1 else advantages
            chunk["advantages"] = advantages * weights_BT

    def _stack(self, rows: Sequence[Segment], num_items: torch.Tensor) -> Chunk:
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
        advantages = torch.tensor([row.advantage for row in rows], device=self.args.device)
        if any(row.weights_T for row in rows):
            weights = [row.weights_T or (1.0,) * len(row.token_ids_T) for row in rows]
            advantages = advantages[:, None] * padded(weights, 1.0)[:, prompt_end:]
        return {
            "prompt_ids": ids_BT[:, :prompt_end],
            "prompt_mask": mask_BT[:, :prompt_end],
            "completion_ids": ids_BT[:, prompt_end:],
            "completion_mask": mask_BT[:, prompt_end:],
            "tool_mask": padded([row.loss_mask_T for row in rows], 0)[:, prompt_end:],
            "advantages": advantages,
            "staleness": torch.tensor([row.staleness for row in rows], device=self.args.device),
            "sampling_logps": padded([row.sampling_logps_T for row in rows], 0.0)[:, prompt_end:],
            "num_items_in_batch": num_items,
        }

    def _add_reference(self, model: torch.nn.Module, chunks: Sequence[Chunk]) -> None:
        """Add the frozen reference's log-probs, before any backward: it swaps adapters."""
        if self.beta == 0.0 or not chunks:
            return
        policy = self.accelerator.unwrap_model(self.model)
        with use_adapter(policy, "ref" if "ref" in policy.peft_config else None):
            self._add_logps(model, chunks, name="ref_per_token_logps")

    def _add_proximal(self, model: torch.nn.Module, chunks: Sequence[Chunk]) -> None:
        """Add the policy's log-probs, before the first update, to what later updates train on."""
        self._add_logps(model, chunks, name="old_per_token_logps")
        for chunk in chunks:
            self._weigh_tokens(chunk, chunk["old_per_token_logps"])

    def _add_logps(self, model: torch.nn.Module, chunks: Sequence[Chunk], *, name: str) -> None:
        """Score micro-batches without gradient; TRL's head tiles the logits, here too."""
        options = self.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(self.model, options):
            for chunk in chunks:
                self._chunk = chunk
                ids_BT = torch.cat([chunk["prompt_ids"], chunk["completion_ids"]], dim=1)
                mask_BT = torch.cat([chunk["prompt_mask"], chunk["completion_mask"]], dim=1)
                num_scored = chunk["completion_ids"].shape[1]
                scores = self._get_per_token_logps_and_entropies(model, ids_BT, mask_BT, num_scored)
                chunk[name] = scores[0]
        self._chunk = None

    def _log_train(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)

    def _log_folded(self, per_chunk: dict[str, list[float]], chunks: list[Any]) -> None:
        """Log one value per step of TRL's metrics per micro-batch."""
        if chunks:
            counts = torch.stack([chunk["tool_mask"].sum() for chunk in chunks])
            weights = self.accelerator.reduce(counts, reduction="sum").tolist()
            for name, value in fold_microbatches(per_chunk, weights).items():
                self._log_train(name, value)


def _scored_by_rollouts(**_: Any) -> list[float]:
    raise AssertionError("`rollouts` scores; this only satisfies the stock trainer's constructor")
