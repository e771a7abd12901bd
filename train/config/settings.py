"""Every configuration field: meaning, unit, default and the source of the number.

One YAML is one experiment and every command reads the same file (`train/config/load.py`). The
defaults suit a pretrained model; `configs/tiny.yaml` overrides them for the from-scratch one.
Numbers without another source are starting values that were reasoned, not measured.

Limits: what depends on the machine (memory, devices) is not checked here but by `--dry-run`.

Tests: tests/train/config/test_every_setting.py.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic.fields import FieldInfo

from rewards.advantages import Method
from rewards.cost_weight import CostWeightKind
from train.config.policy_names import check_policy
from train.config.trl_arguments import TrlArguments

PolicyName = Annotated[str, AfterValidator(check_policy)]
AttentionName = Literal[
    "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention"
]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


def plain(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return `values` if all of them are JSON, which has no infinities."""
    json.dumps(values, allow_nan=False)
    return values


class Section(BaseModel):
    """Base of all sections: immutable, an unknown key is an error, docstrings become `--help`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RunSettings(Section):
    """Where a run writes and what makes it repeatable."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Folder of this experiment below `run.dir`; letters, digits, dot, dash, underscore."""
    dir: str = "runs"
    """Folder that holds all runs, from the working directory."""
    cache: Annotated[str, Field(min_length=1)] = ".cache/tightrope"
    """Folder of tasks and fetched weights, shared by runs; $TIGHTROPE_CACHE is stronger."""
    seed: Natural = 0
    """Seed of every generator; a sample's own is (seed, step, task, sample)."""
    deterministic: bool = False
    """Same bytes for model rollouts too: fp32, fixed admission order, fixed threads; slower."""


class ModelSettings(Section):
    """The base model and its adapter."""

    base: Annotated[str, Field(min_length=1)]
    """`tiny` (from scratch), `smollm2-135m` (`tightrope model fetch`), a folder (./x), a hub id."""
    tiny: tuple[Annotated[int, Field(ge=32, multiple_of=32)], Count] = (256, 4)
    """Width (features; an attention head for each 32) and decoder layers of `base: tiny` alone."""
    chat_template: str | None = None
    """`chatml`, a path, or `text_calls`: the tokenizer's own, calls and results as its text.

    null: the tokenizer's own, refused where it does not render tool calls and results (tiny:
    `tiny`).
    """
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which frozen base weights are held; the adapter is always float32."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast in the training passes; generation computes in the dtype of the weights."""
    load_in_4bit: bool = False
    """Hold the frozen base in 4 bits (NF4, arXiv 2305.14314); needs a GPU and bitsandbytes."""
    attn_implementation: AttentionName = "sdpa"
    """Attention of Transformers; `sdpa` and `eager` run everywhere."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora_rank: Annotated[int, Field(ge=1, le=512)] = 32
    """Rank of the adapter (arXiv 2106.09685); vLLM serves at most 512."""
    lora_alpha: Positive = Field(default_factory=lambda data: 2.0 * data["lora_rank"])
    """Scale of the adapter; where not given, twice the rank."""
    lora_targets: Annotated[list[str], Field(min_length=1)] = ["all-linear"]
    """Modules that get an adapter, in PEFT's names; `all-linear`: all but the head.

    Not the head nor the embedding: vLLM serves no adapter on them.
    """

    @property
    def kind(self) -> Literal["tiny", "shipped", "folder", "hub"]:
        """What `base` names, by its text alone."""
        if self.base == "tiny":
            return "tiny"
        if self.base == "smollm2-135m":
            return "shipped"
        return "folder" if self.base.startswith(("/", "./", "../", "~")) else "hub"


class PromptSettings(Section):
    """What stands before the task."""

    tools: Literal["full", "brief", "none"] = "brief"
    """Tool schemas in the prompt: eleven full ones cost about 900 tokens (measured)."""
    template_args: Annotated[dict[str, JsonValue], AfterValidator(plain)] = {}
    """Arguments of the chat template, such as `{enable_thinking: false}`; names are the template's.

    Fixed with today's date in the run's tokenizer when `demos` writes it; one that it does not use
    is refused there.
    """


class TaskSettings(Section):
    """Which tasks are built; train, dev and test share no combination of atoms and no project."""

    source: Literal["synthetic", "projects"] | str = "synthetic"
    """`synthetic`: generated projects, io grader; `projects`: pinned sdists, pytest grader.

    Or `package.module:function`, see `envs/sources/build.py`.
    """
    dir: str | None = None
    """Folder of the task set; null: .cache/tightrope/tasks/SOURCE-HASH, hash of this section."""
    train: Natural = 2000
    """Tasks to train on; of `projects`, like the next two, the most: what validates counts."""
    dev: Natural = 64
    """Tasks of the gate between warm start and GRPO."""
    test: Natural = 200
    """Held-out tasks for `evaluate`; with 0 of the others a set can be evaluated only."""
    seed: Natural = 0
    """Seed of the task set; apart from `run.seed`, so that runs can share tasks."""
    two_site_share: Share = 0.4
    """Share of synthetic tasks with two mutated sites; the others have one."""
    max_size: tuple[Annotated[int, Field(ge=1, le=4)], Count] = (4, 6)
    """Most modules of a synthetic project, and most functions in one, distractors included."""
    difficulty: dict[str, tuple[Natural, Natural]] = {}
    """Take only tasks with e.g. `{sites: [1, 2]}`: least and most of fields of `Difficulty`.

    The set stays whole: it is a selection whenever tasks are read. Yes and no are 1 and 0.
    """
    recorded_calls: Literal["used", "required"] = "used"
    """`required`: take only tasks whose passes recorded calls confirm, where most tricks end.

    `used`: they are asked where a task has them. A selection too; see docs/tasks.md.
    """
    python: str | None = None
    """A Python with the packages that the tasks' suites import; null: what the build here used.

    A set from elsewhere says which version it needs, never which program.
    """


class ContextSettings(Section):
    """How much may be held, and for how long."""

    strategy: Literal["learned", "full_history"] = "learned"
    """`learned`: the model may note, evict and compact; `full_history`: it has none of these."""
    window_tokens: tuple[Count, Count] = (1024, 2048)
    """Least and most tokens a view may hold, output reserve included; drawn once per group."""
    max_turns: Count = 12
    """Model calls per episode."""
    max_new_tokens: Annotated[int, Field(ge=16)] = 160
    """Tokens sampled per turn; also the output reserve of the window."""
    observation_tokens: Annotated[int, Field(ge=32)] = 512
    """Largest observation in tokens; a longer one is cut with a pointer to `read_lines`."""
    max_sampled_tokens: Count = 2048
    """Tokens sampled per episode, all segments together; the stop reason is token_limit."""


class RewardSettings(Section):
    """What counts as good."""

    outcome: Literal["binary", "graded"] = "binary"
    """`binary`: solved or not; `graded`: half for solved, half fail-to-pass x pass-to-pass rate."""
    cost: Literal["tokens", "price"] = "tokens"
    """Weights of new, cached and sampled tokens: `tokens` 1/1/1, `price` 1/0.1/5."""
    cost_weight: Weight = 0.3
    """Pressure: advantage units per doubling of the cost among solvers; 0.5 for tiny (measured)."""
    advantage: Method | str = "default"
    """Form of the advantage; the named others are ablations.

    Or `package.module:function`, see `Advantage` in `rewards/advantages.py`.
    """
    second_runner_share: Share = 0.0
    """Share of the pytest grader's passes graded again by cold pytest under bubblewrap."""
    pressure: CostWeightKind = "fixed"
    """`controlled`: cost_weight follows the pass rate (rewards/cost_weight.py); `fixed`: it stays.

    The guard of `grpo.evaluate_every` halves it either way.
    """


class SftSettings(Section):
    """The warm start on executed, passing demonstrations."""

    num_demonstrations: Count = 400
    """Solved demonstrations to make (episodes)."""
    wasteful_share: Annotated[float, Field(ge=0, le=0.5)] = 0.4
    """Share with wasteful habits, so that there is something to unlearn; at most half."""
    needs_rewrite_share: Share = 0.35
    """Share on tasks whose window needs `evict` or `compact`.

    At least 0.3 for `synthetic` tasks; where not given, 0 under `full_history`, which has neither.
    """
    learning_rate: Positive = 2e-4
    """Peak learning rate of AdamW; constant after the warm-up."""
    epochs: Positive = 2.0
    """Passes over the demonstrations."""
    tokens_per_batch: Count = 8192
    """Tokens per optimizer step on all devices together, prompt tokens included."""


class RolloutSettings(Section):
    """How episodes are played."""

    prefill_tokens: Count = 4096
    """Most prompt tokens that generation reads in one forward pass; bounds its memory."""
    kept_kv_gb: Weight = 4.0
    """Keys and values kept for episodes that wait for their tools (GB per device).

    Beyond it the least recently used goes, to be computed again; the running batch comes on top.
    """
    tool_workers: Count | None = None
    """Processes that carry out tools and gradings, per training process.

    null: its share of the cores and 4 (some only wait), at most 32.
    """
    tool_limit_s: Positive = 300.0
    """Wall seconds for each call of a turn; a run of tests has limits of its own, far below."""
    turn_limit_s: Positive = 600.0
    """Wall seconds for all calls of a turn, and for a grading."""
    episode_limit_s: Positive = 3600.0
    """Wall seconds for all calls of an episode. Waiting for a worker or the model counts nowhere.

    At a limit the worker is killed and the episode played anew; at the second it is unscorable.
    """


class GrpoSettings(Section):
    """Reinforcement learning; batch sizes are global, over all devices."""

    groups_per_step: Count = 16
    """Tasks per step, one group each."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Episodes per group; the baseline is their mean, so at least 2."""
    max_steps: Count = 60
    """Steps; one rollout of all groups each."""
    updates_per_rollout: Count = 1
    """Optimizer updates per step, each on its share of the groups; divides `groups_per_step`.

    From the second on the policy has moved, and the loss clips how far (`grpo.trl.epsilon`).
    """
    importance_weights: Literal["auto", "token_truncate", "token_mask", "off"] = "auto"
    """Weights of tokens: the trainer's over the sampler's probability; docs/off_policy.md.

    `token_truncate`: at most 2; `token_mask`: 0 above 2; `auto`: `token_truncate` where they
    compute differently (bf16, 4 bits), else `off`.
    """
    learning_rate: Positive = 5e-5
    """Learning rate of AdamW (betas 0.9, 0.95); constant after the warm-up."""
    kl_weight: Weight = 1e-3
    """Weight of the KL divergence to the frozen SFT adapter; TRL's `beta`."""
    tokens_per_microbatch: Count = 4096
    """Padded tokens per forward pass and device; bounds memory.

    GRPO's result does not depend on it; the warm start rounds its rows per step to such batches.
    """
    generation_batch: Count = 64
    """Episodes decoded at once per device; bounds the memory of the KV cache.

    More are played, so that others decode while the tools of some run.
    """
    start_from: Annotated[str, Field(min_length=1)] = "sft"
    """`sft` (this run's warm start), `base`, or the path of an adapter folder."""
    evaluate_every: Count | None = 20
    """Steps between evaluations on dev tasks (best adapter, guard); null: none.

    The adapter that GRPO starts from is evaluated too, and may be the best.
    """
    trl: TrlArguments = {}
    """Further arguments of TRL's `GRPOConfig`; --grpo.trl.max_grad_norm 0.5 sets one.

    Which pass, and why others do not: train/config/trl_arguments.py.
    Ours where not given: loss_type dapo (arXiv 2503.14476; or cispo, 2506.13585), epsilon 0.2,
    epsilon_high 0.28 (cispo 5.0), warmup_steps 3, max_grad_norm 1, adam_beta2 0.95, no decay.
    """


class CheckpointSettings(Section):
    """What can be resumed."""

    every: Count = 10
    """GRPO steps between checkpoints; the warm start saves four times."""
    keep: Count = 2
    """Newest checkpoints that stay on disk."""


class EvaluateSettings(Section):
    """What is measured on held-out tasks."""

    num_tasks: Count = 100
    """Tasks per policy, from the front of the split."""
    num_samples: Count = 2
    """Episodes per task at temperature 1, as in training."""
    split: Literal["train", "dev", "test"] = "test"
    """Split to measure on; on `train` only to see how well it was learned."""
    policies: Annotated[list[PolicyName], Field(min_length=1)] = [
        "base",
        "sft",
        "sft-greedy",
        "grpo",
        "grpo-greedy",
        "gold",
        "careful",
    ]
    """Policies to compare: names, folders of adapters and models, hub ids (FOLDER:greedy).

    `-greedy`: one episode per task; scripts such as `gold` are yardsticks.
    """


class Settings(Section):
    """One experiment."""

    run: RunSettings
    """Where it writes and what makes it repeatable."""
    model: ModelSettings
    """The base model and its adapter."""
    prompt: PromptSettings = PromptSettings()
    """What stands before the task."""
    tasks: TaskSettings = TaskSettings()
    """Which tasks are built."""
    context: ContextSettings = ContextSettings()
    """How much may be held."""
    reward: RewardSettings = RewardSettings()
    """What counts as good."""
    sft: SftSettings = SftSettings()
    """The warm start."""
    rollouts: RolloutSettings = RolloutSettings()
    """How episodes are played."""
    grpo: GrpoSettings = GrpoSettings()
    """Reinforcement learning."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    """What can be resumed."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """What is measured."""

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: Any) -> Any:
        context, sft = (data.get(name, {}) for name in ("context", "sft"))
        if not isinstance(context, dict) or not isinstance(sft, dict):
            return data
        if context.get("strategy") != "full_history" or "needs_rewrite_share" in sft:
            return data
        return {**data, "sft": {**sft, "needs_rewrite_share": 0.0}}


RENAMED: dict[str, str] = {"sft.forced_share": "sft.needs_rewrite_share"}
"""Fields of older configurations, and their names today."""


def rename_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as it was saved, with its fields under today's names."""
    renamed: dict[str, Any] = {}
    for section, fields in data.items():
        for name, value in fields.items():
            path = RENAMED.get(f"{section}.{name}", f"{section}.{name}")
            renamed.setdefault(path.partition(".")[0], {})[path.partition(".")[2]] = value
    return renamed


def list_fields() -> dict[str, FieldInfo]:
    """Return every field by its path `section.field`, in the order of the schema."""
    sections: dict[str, Any] = {
        each: info.annotation for each, info in Settings.model_fields.items()
    }
    return {
        f"{section}.{name}": field
        for section, kind in sections.items()
        for name, field in kind.model_fields.items()
    }
