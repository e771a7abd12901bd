"""Every configuration field: meaning, unit, default and the source of the number.

One YAML is one experiment and every command reads the same file (`train/config/load.py`). The
defaults suit a pretrained model; `configs/tiny.yaml` overrides them for the from-scratch one.
Numbers without another source are starting values that were reasoned, not measured. Fields of the
stages: `train/config/stage_settings.py`.

Limits: what depends on the machine (memory, devices) is not checked here but by `--dry-run`.

Tests: tests/train/config/test_every_setting.py.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag, model_validator
from pydantic.fields import FieldInfo

from envs.records import Behaviour, Strategy
from rewards.advantages import Method
from rewards.cost_weight import CostWeightKind
from train.config.policy_names import SHIPPED
from train.config.section import Count, Different, Natural, Positive, Section, Share, Weight
from train.config.stage_settings import (
    CheckpointSettings,
    EvaluateSettings,
    GrpoSettings,
    RolloutSettings,
    SftSettings,
)

AttentionName = Literal[
    "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention"
]


Fill = Annotated[float, Field(gt=0, le=1)]
TrackerName = Literal["none", "trackio", "tensorboard", "wandb"]


def plain(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return `values` if all of them are JSON, which has no infinities."""
    json.dumps(values, allow_nan=False)
    return values


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
    report_to: TrackerName = "none"
    """Tracker that gets the metrics of both training stages besides `metrics.jsonl`.

    Each is a package of its own; `wandb` sends them to a server unless WANDB_MODE says otherwise.
    """


class ModelSettings(Section):
    """The base model and its adapter."""

    base: Annotated[str, Field(min_length=1)]
    """`tiny` (from scratch), a name of `tightrope model fetch`, a folder (./x), a hub id."""
    tiny: tuple[Annotated[int, Field(ge=32, multiple_of=32)], Count] = (256, 4)
    """Width (features; an attention head for each 32) and decoder layers of `base: tiny` alone."""
    chat_template: str | None = None
    """`chatml`, a path, or `text_calls`: the tokenizer's own, calls and results as its text.

    null: the tokenizer's own, refused where it does not render tool calls and results (tiny:
    `tiny`).
    """
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which frozen base weights are held; the adapter is always float32."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """`bf16`: autocast in the training passes; generation computes in the dtype of the weights.

    `auto`: where the GPU, or the CPU (AVX512_BF16, AMX), multiplies bf16; fp32 if deterministic.
    """
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
        if self.base in SHIPPED:
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
    length: list[Annotated[int, Field(ge=1, le=8)]] = []
    """Modules with a bug and a fact that another needs, drawn for each task of e.g. `[1, 2, 4]`.

    1 is an ordinary task, as are all if this is empty; for others `max_size` bounds functions only.
    Of `projects`: files with a bug. See docs/tasks.md.
    """
    distractors: Annotated[int, Field(ge=0, le=100)] = 1
    """Modules without a bug for each of `length`: 1, 10, 100 to see what search is worth."""
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


class OfLeastPeak(Section):
    """Windows as multiples of what a task needs."""

    of_least_peak: tuple[Positive, Positive]
    """Least and most of the ratio of window and least peak; below 1 a rewrite is needed."""
    at_most: Count = 4096
    """Tokens of the largest window, whatever a task's least peak: what a batch must hold."""


def _kind_of_window(value: Any) -> str:
    return "of_least_peak" if isinstance(value, dict | OfLeastPeak) else "absolute"


WindowTokens = Annotated[
    Annotated[tuple[Count, Count], Tag("absolute")] | Annotated[OfLeastPeak, Tag("of_least_peak")],
    Discriminator(_kind_of_window),
]


class ContextSettings(Section):
    """How much may be held, and for how long."""

    strategy: Strategy = "learned"
    """What rewrites the context: the model by its tools (`learned`), or the environment.

    `full_history`: nothing; `mask`: drops all results but the last; `summarize`: asks for a summary
    and drops the rest; `hybrid`: both; `learned_net`: tools, and asks at 95 %. docs/strategies.md.
    """
    window_tokens: WindowTokens = (1024, 2048)
    """Least and most tokens a view may hold, output reserve included; drawn once per group.

    Or `{of_least_peak: [0.7, 1.5], at_most: 4096}`: multiples of a task's least peak, none larger
    than `at_most` (docs/windows.md).
    """
    needs_rewrite_share: Share | None = None
    """Share of groups whose window needs a rewrite, as far as tasks have such; null: as they fall.

    No scripted reader solves the task in such a window without `evict` or `compact`.
    """
    max_turns: Count = 12
    """Model calls per episode."""
    max_new_tokens: Annotated[int, Field(ge=16)] = 160
    """Tokens sampled per turn; also the output reserve of the window."""
    observation_tokens: Annotated[int, Field(ge=32)] = 512
    """Largest observation in tokens; a longer one is cut with a pointer to `read_lines`."""
    max_sampled_tokens: Count = 2048
    """Tokens sampled per episode, all segments together; the stop reason is token_limit."""
    fill_threshold: tuple[Fill, Fill] = (0.6, 0.9)
    """Where `mask`, `summarize` and `hybrid` act: share of the window less the output reserve.

    Least and most, drawn once per group.
    """
    keep_last: tuple[Count, Count] = (2, 4)
    """Results that `mask` and `hybrid` leave in view: least and most, drawn once per group."""
    evict_batch: Count = 3
    """They drop when so many more are in view: views between begin alike, which a cache serves."""
    without: Annotated[list[Behaviour], Different] = []
    """Tools that are taken away; `plan` takes notes before the first read. Windows stay.

    A trained policy is evaluated so to see what each is worth (docs/discipline.md).
    """

    @property
    def window_range(self) -> str:
        """What `window_tokens` says, in words."""
        asked = self.window_tokens
        if isinstance(asked, OfLeastPeak):
            low, high = asked.of_least_peak
            return f"{low:g} to {high:g} of a task's least peak, at most {asked.at_most:,} tokens"
        return f"{asked[0]:,} to {asked[1]:,} tokens"


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
    process_weight: Weight = 0.0
    """Advantage units that each wasteful call costs a solver, 0.2 in all at most; 0: none.

    Re-reads of what is in view, whole files where lines were enough, malformed calls
    (`count_offences` in rewards/reading.py).
    """
    context_action_weight: Annotated[float, Field(ge=1, le=10)] = 1.0
    """Weight in the loss of turns with `note`, `evict` or `compact`, against 1 of the others.

    Rescaled to mean 1 over an episode's sampled tokens, so no episode weighs more for it.
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

    @property
    def largest_window(self) -> int:
        """Most tokens that any view may hold; no batch size has a say in it."""
        asked = self.context.window_tokens
        return asked.at_most if isinstance(asked, OfLeastPeak) else asked[1]

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
