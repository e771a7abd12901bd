"""Every configuration field: meaning, unit, default and the source of the number.

One YAML is one experiment and every command reads the same file (`train/load.py`). The defaults suit a
pretrained model; `configs/tiny.yaml` overrides them for the from-scratch one. Numbers without another
source are starting values that were reasoned, not measured.

Limits: what depends on the machine (memory, devices) is not checked here but by `--dry-run`.
"""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PolicyName = Literal["base", "sft", "grpo", "gold", "careful", "wasteful", "noop"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: immutable, an unknown key is an error, docstrings become `--help`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RunSettings(Section):
    """Where a run writes and what makes it repeatable."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Folder of this experiment below `run.dir`; letters, digits, dot, dash, underscore."""
    dir: str = "runs"
    """Folder that holds all runs, from the working directory."""
    seed: Natural = 0
    """Seed of every generator; a sample's own is (seed, step, task, sample)."""
    deterministic: bool = False
    """Same bytes for model rollouts too: fp32, fixed admission order, fixed threads; slower."""
    cpu: bool | None = None
    """Train on the CPU; null: only where no accelerator is found."""


class TinySettings(Section):
    """Shape of the from-scratch model (Qwen2 architecture, tied embeddings); read for `base: tiny`."""

    hidden_size: Count = 256
    """Width, in features; the MLP is 3 times as wide."""
    num_layers: Count = 4
    """Decoder layers."""
    num_heads: Count = 4
    """Attention heads; divides the width."""
    vocab_size: Annotated[int, Field(ge=512)] = 1024
    """Byte-level BPE tokens, special ones included; 1,024 suits the synthetic projects (measured)."""


class ModelSettings(Section):
    """The base model and its adapter."""

    base: Annotated[str, Field(min_length=1)]
    """`tiny` (from scratch), `smollm2-135m` (see `tightrope model fetch`), a folder (./x) or a hub id."""
    tiny: TinySettings = TinySettings()
    """Shape of the from-scratch model."""
    chat_template: str | None = None
    """A path, or the name of a shipped template; null: the tokenizer's own."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which frozen base weights are held; the adapter is always float32."""
    attn_implementation: str = "sdpa"
    """Attention of Transformers; `sdpa` runs everywhere."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora_rank: Count = 32
    """Rank of the adapter (arXiv 2106.09685)."""
    lora_alpha: Positive = 64.0
    """Scale of the adapter; twice the rank."""
    lora_targets: Annotated[list[str], Field(min_length=1)] = ["all-linear"]
    """Modules that get an adapter, as PEFT names them; `all-linear`: every linear layer but the head."""

    @property
    def kind(self) -> Literal["tiny", "shipped", "folder", "hub"]:
        """What `base` names, told by its text alone."""
        if self.base == "tiny":
            return "tiny"
        if self.base == "smollm2-135m":
            return "shipped"
        return "folder" if self.base.startswith(("/", "./", "../", "~")) else "hub"


class PromptSettings(Section):
    """What stands before the task."""

    tools: Literal["full", "brief", "none"] = "brief"
    """Tool schemas in the prompt: eleven full ones cost about 900 tokens (measured)."""
    system: str | None = None
    """System prompt; null: the shipped text."""


class TaskSettings(Section):
    """Which tasks are built; train, dev and test share no combination, function or project."""

    source: Literal["synthetic", "projects"] = "synthetic"
    """`synthetic`: generated projects, io grader; `projects`: pinned sdists, pytest grader."""
    dir: str | None = None
    """Folder of the task set; null: .cache/tightrope/tasks/SOURCE-HASH, hash of this section."""
    train: Count = 2000
    """Tasks to train on; an upper bound for `projects`."""
    dev: Count = 64
    """Tasks of the guard that watches the pass rate while training."""
    test: Count = 200
    """Held-out tasks for `evaluate`."""
    seed: Natural = 0
    """Seed of the task set; apart from `run.seed`, so that runs can share tasks."""
    two_site_share: Share = 0.4
    """Share of tasks with two mutated sites; the others have one."""
    max_modules: Annotated[int, Field(ge=1, le=4)] = 4
    """Most modules of a synthetic project."""
    max_functions: Count = 6
    """Most functions in a synthetic module, distractors included."""


class ContextSettings(Section):
    """How much may be held, and for how long."""

    strategy: Literal["learned", "full_history"] = "learned"
    """`learned`: the model may note, evict and compact; `full_history`: nothing ever leaves."""
    window_tokens: tuple[Count, Count] = (1024, 2048)
    """Least and most tokens a view may hold, output reserve included; drawn once per group."""
    max_turns: Count = 12
    """Model calls per episode."""
    max_new_tokens: Annotated[int, Field(ge=16)] = 160
    """Tokens sampled per turn; also the output reserve of the window."""
    observation_tokens: Annotated[int, Field(ge=32)] = 512
    """Largest observation in tokens; a longer one is cut with a pointer to `read_lines`."""
    max_rewrites: Natural = 8
    """Evictions and compactions per episode, so that segments per episode stay bounded."""
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
    advantage: Literal["default", "additive", "multiplicative", "outcome_only", "zscore"] = "default"
    """Form of the advantage; the others are ablations."""


class SftSettings(Section):
    """The warm start on executed, passing demonstrations."""

    num_demonstrations: Count = 400
    """Solved demonstrations to make (episodes)."""
    wasteful_share: Annotated[float, Field(ge=0, le=0.5)] = 0.4
    """Share with wasteful habits, so that there is something to unlearn; at most half."""
    forced_share: Annotated[float, Field(ge=0.3, le=1)] = 0.35
    """Share on tasks whose window forces `evict` or `compact`; at least 0.3."""
    learning_rate: Positive = 2e-4
    """Peak learning rate of AdamW; constant after the warm-up."""
    epochs: Positive = 2.0
    """Passes over the demonstrations."""
    max_steps: Count | None = None
    """Optimizer steps; overrides `epochs`."""
    tokens_per_batch: Count = 8192
    """Tokens per optimizer step on all devices together, prompt tokens included."""
    warmup_steps: Natural = 5
    """Optimizer steps of linear warm-up."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast in forward and backward; about twice as fast on a CPU (measured)."""
    weight_decay: Weight = 0.0
    """Decoupled weight decay of AdamW."""


class GrpoSettings(Section):
    """Reinforcement learning; batch sizes are global, over all devices."""

    groups_per_step: Count = 16
    """Tasks per step, one group each."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Episodes per group; the baseline is their mean, so at least 2."""
    max_steps: Count = 60
    """Steps; one optimizer update each."""
    learning_rate: Positive = 5e-5
    """Learning rate of AdamW (betas 0.9, 0.95); constant after the warm-up."""
    warmup_steps: Natural = 3
    """Steps of linear warm-up."""
    loss_type: Literal["dapo", "cispo"] = "dapo"
    """Policy term: clipped ratio (arXiv 2503.14476) or clipped weight (arXiv 2506.13585)."""
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Lower clip of the importance ratio."""
    epsilon_high: Positive = Field(
        default_factory=lambda data: 5.0 if data.get("loss_type") == "cispo" else 0.28
    )
    """Upper clip of the importance ratio; 0.28 for dapo, 5.0 for cispo."""
    kl_weight: Weight = 1e-3
    """Weight of the KL divergence to the frozen SFT adapter; TRL's `beta`."""
    tokens_per_microbatch: Count = 4096
    """Padded tokens per forward pass and device; bounds memory, changes no result."""
    temperature: Positive = 1.0
    """Sampling temperature in training and evaluation; other than 1 is off policy."""
    generation_batch: Count = 64
    """Episodes decoded at once per device; bounds the memory of the KV cache."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast in the training passes; generation keeps the dtype of the weights."""
    start_from: Annotated[str, Field(min_length=1)] = "sft"
    """`sft` (this run's warm start), `base`, or the path of an adapter folder."""
    save_every: Count = 10
    """Steps between checkpoints."""
    keep_checkpoints: Count = 2
    """Newest checkpoints that stay on disk."""


class EvaluateSettings(Section):
    """What is measured on held-out tasks."""

    num_tasks: Count = 100
    """Tasks per policy, from the front of the split."""
    num_samples: Count = 2
    """Episodes per task at `grpo.temperature`."""
    split: Literal["dev", "test"] = "test"
    """Split to measure on."""
    policies: Annotated[list[PolicyName], Field(min_length=1)] = [
        "base",
        "sft",
        "grpo",
        "gold",
        "careful",
    ]
    """Policies to compare; `gold` and `careful` are scripted yardsticks."""
    base_tasks: Count = 32
    """Tasks for `base`, one episode each: it rarely finds the end, so it costs the most time."""
    base_turns: Count = 4
    """Turns for `base`, likewise."""
    greedy: bool = True
    """Also one greedy episode per task for `sft` and `grpo`."""


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
    grpo: GrpoSettings = GrpoSettings()
    """Reinforcement learning."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """What is measured."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        conflicts = find_conflicts(self)
        if conflicts:
            raise ConflictError(conflicts)
        return self


class Conflict(NamedTuple):
    """An impossible combination: the fields that cannot stand together, and why."""

    fields: tuple[str, ...]
    reason: str


class ConflictError(ValueError):
    """All impossible combinations of one experiment."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        self.conflicts = conflicts
        super().__init__("; ".join(f"{', '.join(c.fields)}: {c.reason}" for c in conflicts))


# Least room for system prompt, task and one observation beside two outputs (a call, and `compact`).
MIN_VIEW_TOKENS = 128
FULL_SCHEMA_TOKENS = 900  # eleven full tool schemas in Qwen's vocabulary (measured)


def find_conflicts(settings: Settings) -> list[Conflict]:
    """Return every combination of valid values that cannot work together."""
    return [*_model_conflicts(settings), *_window_conflicts(settings), *_count_conflicts(settings)]


def _model_conflicts(settings: Settings) -> list[Conflict]:
    model, grpo, sft = settings.model, settings.grpo, settings.sft
    found = []
    if model.tiny.hidden_size % model.tiny.num_heads:
        reason = f"{model.tiny.num_heads} heads do not divide a width of {model.tiny.hidden_size}"
        found.append(Conflict(("model.tiny.hidden_size", "model.tiny.num_heads"), reason))
    if settings.prompt.tools == "none" and model.kind in ("hub", "shipped"):
        reason = f"{model.base} was never told of our tools; use 'brief' or 'full'"
        found.append(Conflict(("prompt.tools", "model.base"), reason))
    if grpo.start_from == "base" and model.kind == "tiny":
        reason = "the tiny model has no pretrained weights to start from; use 'sft' or a path"
        found.append(Conflict(("grpo.start_from", "model.base"), reason))
    if grpo.epsilon_high < grpo.epsilon:
        reason = f"the upper clip {grpo.epsilon_high} is below the lower one {grpo.epsilon}"
        found.append(Conflict(("grpo.epsilon_high", "grpo.epsilon"), reason))
    if grpo.loss_type == "cispo" and grpo.epsilon_high < 1:
        reason = f"cispo cuts each token's weight at {grpo.epsilon_high}; use at least 1 (5.0)"
        found.append(Conflict(("grpo.epsilon_high", "grpo.loss_type"), reason))
    for field, precision in (("sft", sft.precision), ("grpo", grpo.precision)):
        if settings.run.deterministic and precision == "bf16":
            reason = "deterministic runs need fp32: bf16 results depend on the batch"
            found.append(Conflict(("run.deterministic", f"{field}.precision"), reason))
    return found


def _window_conflicts(settings: Settings) -> list[Conflict]:
    context = settings.context
    low, high = context.window_tokens
    found = []
    if low > high:
        reason = f"the least window {low} is larger than the largest {high}"
        found.append(Conflict(("context.window_tokens",), reason))
    schemas = FULL_SCHEMA_TOKENS if settings.prompt.tools == "full" else 0
    least = 2 * context.max_new_tokens + MIN_VIEW_TOKENS + schemas
    if low < least:
        fields = ("context.window_tokens", "context.max_new_tokens", "prompt.tools")
        reason = (
            f"a window of {low} cannot hold two outputs of {context.max_new_tokens}, "
            f"{MIN_VIEW_TOKENS} for the task and {schemas} for tool schemas; use at least {least}"
        )
        found.append(Conflict(fields, reason))
    if context.max_sampled_tokens < context.max_new_tokens:
        reason = f"an episode of {context.max_sampled_tokens} cannot hold one turn"
        found.append(Conflict(("context.max_sampled_tokens", "context.max_new_tokens"), reason))
    for field, budget in (
        ("grpo.tokens_per_microbatch", settings.grpo.tokens_per_microbatch),
        ("sft.tokens_per_batch", settings.sft.tokens_per_batch),
    ):
        if budget < high:
            reason = f"a row may be as long as the largest window {high}, more than {budget}"
            found.append(Conflict((field, "context.window_tokens"), reason))
    return found


def _count_conflicts(settings: Settings) -> list[Conflict]:
    evaluate, tasks = settings.evaluate, settings.tasks
    available = tasks.test if evaluate.split == "test" else tasks.dev
    found = []
    if evaluate.num_tasks > available:
        fields = ("evaluate.num_tasks", f"tasks.{evaluate.split}")
        reason = f"{evaluate.num_tasks} tasks to evaluate, {available} in the split"
        found.append(Conflict(fields, reason))
    if evaluate.base_tasks > evaluate.num_tasks:
        reason = f"{evaluate.base_tasks} tasks for base, {evaluate.num_tasks} in all"
        found.append(Conflict(("evaluate.base_tasks", "evaluate.num_tasks"), reason))
    return found
