"""One card's rows of benchmarks/gpu.py: what is built, measured and counted for each.

Shapes: T tokens.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.made_up import (
    GROUP_SIZE,
    ask_all,
    make_prompts,
    make_row,
    play_all,
    sample_all,
)
from benchmarks.measuring import Row, Spec, peak_bytes, reset_peak, watch_engine
from envs.errors import UserError
from tests.train.tiny_policy import tokenizer
from train.config.load import load_settings
from train.config.settings import Settings
from train.costs.cards import share_of_peak
from train.costs.flops import count_flops
from train.costs.shape import measure_shape
from train.models.acting import copy_for_acting
from train.models.model import add_adapter, count_parameters, load_base
from train.recipes.estimate import estimate_memory
from train.rl.grpo_arguments import derive_grpo_config
from train.rl.grpo_trainer import (
    MultiSegmentGRPOTrainer,
    RolloutBatch,
    StepRequest,
    make_step_dataset,
)
from train.rl.importance import choose_form
from train.rollouts.engine import Engine
from train.rollouts.kv_cache import PrefixStore
from train.servers import client
from train.servers.client import Sampling

ROOT = Path(__file__).resolve().parents[1]
UPDATES = ("--grpo.kl_weight=0", "--grpo.max_steps=4")  # the first warms up
_KV_SHARE = 0.3  # of free memory for the running batch; as much is kept for waiting episodes


def find_device() -> tuple[str, str]:
    """Return torch's name of the device, and the maker's."""
    if torch.cuda.is_available():
        return "cuda", torch.cuda.get_device_name()
    return "cpu", "CPU"


DEVICE, DEVICE_NAME = find_device()


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        config: Settings of this file, overridden by `overrides`.
        shape: config.json's folder, or its values.
        windows: Tokens of a view, the sample included.
        counts: Episodes at once.
        new_tokens: Sampled by each in a turn.
        num_turns: Of an episode in the whole step, each with as many tokens of results.
        row_tokens: Of a training row.
        groups: Of the whole step.
    """

    config: str
    overrides: tuple[str, ...]
    shape: str | Mapping[str, Any]
    windows: tuple[int, ...]
    counts: tuple[int, ...]
    new_tokens: int
    num_turns: int
    row_tokens: int
    groups: int


@dataclass
class GpuBench:
    """Measures rows of one size.

    Attributes:
        size: How large everything is.
        weights: A model folder, or None for random weights.
    """

    size: Size
    weights: Path | None = None

    def measure(self, spec: Spec) -> Row:
        """Return one row, or why it cannot be had."""
        how: dict[str, Callable[[Spec], Row]] = {
            "generation": self.generate,
            "training": self.train,
            "step": self.take_step,
            "four_bits": self.load_in_four_bits,
        }
        try:
            return how[spec["what"]](spec)
        except UserError as error:
            return {"reason": error.what}
        except torch.cuda.OutOfMemoryError:
            return {"reason": "out of memory"}
        finally:
            if DEVICE == "cuda":
                torch.cuda.empty_cache()

    def settings(self, *overrides: str) -> Settings:
        """Return the experiment's settings."""
        fixed = [f"--grpo.group_size={GROUP_SIZE}", f"--grpo.groups_per_step={self.size.groups}"]
        fixed += ["--grpo.evaluate_every=null", "--checkpoints.every=100"]
        return load_settings(
            ROOT / self.size.config,
            [*self.size.overrides, *fixed, *overrides],
        )

    def make_model(self, settings: Settings) -> Any:
        """Return the base with a fresh adapter.

        Raises:
            UserError: Its attention needs a package that is not there.
        """
        shape = self.weights or self.size.shape
        options = {
            "dtype": getattr(torch, settings.model.dtype),
            "attn_implementation": settings.model.attn_implementation,
        }
        torch.manual_seed(0)
        try:
            if self.weights:
                base = AutoModelForCausalLM.from_pretrained(self.weights, **options).to(DEVICE)
            else:
                with torch.device(DEVICE):
                    base = AutoModelForCausalLM.from_config(read_shape(shape), **options)
        except (ImportError, ValueError) as error:
            text = " ".join(str(error).split())[:120]
            raise UserError(text, remedy="install it, or leave this row out") from error
        return add_adapter(base, settings)

    def generate(self, spec: Spec) -> Row:
        """Generate for some episodes at once from full windows."""
        if spec["backend"] == "vllm":
            return self.generate_by_vllm(spec)
        settings = self.settings()
        model = self.make_model(settings)
        held = reset_peak()
        engine = self.make_engine(model, settings, window=spec["window"])
        prompts = make_prompts(
            spec["episodes"],
            num_tokens=spec["window"] - self.size.new_tokens,
            vocab_size=model.config.vocab_size,
        )
        with watch_engine() as watch:
            began = time.perf_counter()
            asyncio.run(sample_all(engine, prompts))
            seconds = time.perf_counter() - began
        sampled = len(prompts) * self.size.new_tokens
        read = sum(len(ids) for ids in set(prompts))
        num_prompt, num_new = spec["window"] - self.size.new_tokens, self.size.new_tokens
        shape, adapted = measure_shape(model.config), count_parameters(model).trainable
        num_read = len(set(prompts))
        flops = count_flops(
            shape, num_new=num_prompt, num_rows=num_read, num_scored=num_read, num_adapted=adapted
        ) + count_flops(
            shape,
            num_new=num_new,
            num_before=num_prompt,
            num_rows=len(prompts),
            num_scored=sampled,
            num_adapted=adapted,
        )
        return {
            "rows": min(len(prompts), engine.max_rows),
            "prompt_tokens_per_s": read / watch.seconds["prompts"],
            "tokens_per_s": sampled / watch.seconds["tokens"],
            "seconds": seconds,
            "share_of_peak": share_of_peak(flops.total, seconds, DEVICE_NAME),
            "held_gb": held / 1e9,
            "peak_gb": peak_bytes() / 1e9,
        }

    def generate_by_vllm(self, spec: Spec) -> Row:
        """Generate the same by a server of the same base, without an adapter.

        Prompts are read within the time, and what the server holds is not measured.
        """
        if not spec["server"]:
            raise UserError("no vLLM server is named", remedy="start one, and give --vllm URL")
        base = client.describe_base(spec["server"])
        if base["max_model_len"] < spec["window"]:
            raise UserError(f"the server takes {base['max_model_len']} tokens", remedy="start it")
        config = read_shape(self.weights or self.size.shape)
        num_prompt = spec["window"] - self.size.new_tokens
        prompts = make_prompts(
            spec["episodes"], num_tokens=num_prompt, vocab_size=config.vocab_size
        )
        sampling = Sampling(stop_ids=(), max_new_tokens=self.size.new_tokens)
        began = time.perf_counter()
        asyncio.run(ask_all(spec["server"], base["id"], prompts, sampling=sampling))
        seconds = time.perf_counter() - began
        unknown = ("prompt_tokens_per_s", "share_of_peak", "held_gb", "peak_gb")
        sampled = len(prompts) * self.size.new_tokens
        rates = {"tokens_per_s": sampled / seconds, "seconds": seconds}
        return {"rows": len(prompts), **rates, **dict.fromkeys(unknown)}

    def make_engine(self, model: Any, settings: Settings, *, window: int) -> Engine:
        """Return an engine with as many rows as fit, from which nothing stops early."""
        acting = copy_for_acting(model).eval()
        shape = measure_shape(acting.config, bits=8 * acting.dtype.itemsize)
        row_bytes = shape.kv_bytes(window, keeps_all=True)
        fitting = settings.grpo.generation_batch
        if DEVICE == "cuda":
            fitting = max(1, int(_KV_SHARE * torch.cuda.mem_get_info()[0] / row_bytes))
        return Engine(
            acting,
            stop_ids=(),
            max_new_tokens=self.size.new_tokens,
            max_rows=min(fitting, max(self.size.counts)),
            prefill_tokens=settings.rollouts.prefill_tokens,
            kept=PrefixStore(max_bytes=settings.rollouts.kept_kv_gb * 1e9),
        )

    def train(self, spec: Spec) -> Row:
        """Take updates on full rows, two micro-batches each."""
        settings = self.settings(*UPDATES, f"--model.attn_implementation={spec['attention']}")
        return self.update(self.make_model(settings), settings)

    def load_in_four_bits(self, spec: Spec) -> Row:
        """Load the base in 4 bits as a run does, and take updates on it."""
        del spec
        if DEVICE == "cpu":
            raise UserError("4 bits need a GPU", remedy="leave this row out")
        with tempfile.TemporaryDirectory() as folder:
            if not self.weights:
                self.make_model(self.settings()).get_base_model().save_pretrained(folder)
                torch.cuda.empty_cache()
            base = str(self.weights or folder)
            settings = self.settings(*UPDATES, "--model.load_in_4bit=true", f"--model.base={base}")
            began = time.perf_counter()
            model = add_adapter(load_base(settings), settings)
            seconds = time.perf_counter() - began
        return {"load_s": seconds, **self.update(model, settings)}

    def update(self, model: Any, settings: Settings) -> Row:
        """Train a model on full rows, two micro-batches an update."""
        num_rows = 2 * max(1, settings.grpo.tokens_per_microbatch // self.size.row_tokens)
        ids = make_prompts(
            num_rows * GROUP_SIZE,
            num_tokens=self.size.row_tokens,
            vocab_size=model.config.vocab_size,
        )
        rows = [make_row(each, place) for place, each in enumerate(ids[::GROUP_SIZE])]
        held = reset_peak()
        steps = self.run_trainer(model, settings, lambda *_: RolloutBatch([rows]))[1:]
        seconds = sum(row["seconds/learn"] for row in steps) / len(steps)
        tokens = num_rows * self.size.row_tokens
        passes = 3 if settings.model.gradient_checkpointing else 2  # none for frozen weights
        flops = count_flops(
            measure_shape(model.config),
            num_new=self.size.row_tokens,
            num_rows=num_rows,
            num_scored=sum(sum(row.loss_mask_T) for row in rows),
            num_adapted=count_parameters(model).trainable,
            passes=passes,
        )
        return {
            "tokens_per_s": tokens / seconds,
            "seconds": seconds,
            "share_of_peak": share_of_peak(flops.total, seconds, DEVICE_NAME),
            "held_gb": held / 1e9,
            "peak_gb": peak_bytes() / 1e9,
        }

    def take_step(self, spec: Spec) -> Row:
        """Take a whole step: episodes of some turns with made-up results, then the update."""
        del spec
        settings = self.settings("--grpo.max_steps=1")
        model = self.make_model(settings)
        window = settings.largest_window

        def roll_out(request: StepRequest, acting: Any) -> RolloutBatch:
            engine = self.make_engine(acting, settings, window=window)
            acting.eval()
            num_episodes = request.num_groups * GROUP_SIZE
            first = make_prompts(
                num_episodes, num_tokens=window // 8, vocab_size=acting.config.vocab_size
            )
            episodes = asyncio.run(play_all(engine, first, num_turns=self.size.num_turns))
            return RolloutBatch([episodes])

        reset_peak()
        (found,) = self.run_trainer(model, settings, roll_out)
        estimate = estimate_memory(
            settings,
            "grpo",
            shape=model.config,
            count=count_parameters(model),
            world_size=1,
            on_cpu=DEVICE == "cpu",
        )
        return {
            "episodes": self.size.groups * GROUP_SIZE,
            "rollout_s": found["seconds/rollout"],
            "learn_s": found["seconds/learn"],
            "tokens_per_s": found["num_sampled_tokens"] / found["seconds/rollout"],
            "mismatch_kl": found["mismatch_kl"],
            "peak_gb": peak_bytes() / 1e9,
            "estimated_gb": estimate.peak / 1e9,
        }

    def run_trainer(
        self,
        model: Any,
        settings: Settings,
        rollouts: Callable[[StepRequest, Any], RolloutBatch],
    ) -> list[Row]:
        """Train as the recipe does; returns the metrics of each step."""
        num_steps, num_groups = settings.grpo.max_steps, settings.grpo.groups_per_step
        with tempfile.TemporaryDirectory() as folder:
            trainer = MultiSegmentGRPOTrainer(
                model,
                args=derive_grpo_config(settings, Path(folder)),
                train_dataset=make_step_dataset(num_steps=num_steps, groups_per_step=num_groups),
                processing_class=tokenizer(),
                rollouts=rollouts,
                tokens_per_microbatch=settings.grpo.tokens_per_microbatch,
                importance=choose_form(settings),
            )
            trainer.train()
        rows: list[Row] = trainer.state.log_history[:-1]
        assert len(rows) == num_steps
        return rows


def read_shape(shape: Path | str | Mapping[str, Any]) -> Any:
    """Return a Transformers config: of a folder, from the root of the repository, or of values."""
    if isinstance(shape, Mapping):
        values = dict(shape)
        return AutoConfig.for_model(values.pop("model_type"), **values)
    return AutoConfig.from_pretrained(ROOT / shape, trust_remote_code=False)
