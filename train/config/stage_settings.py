"""The configuration's fields of the stages: warm start, rollouts, GRPO, checkpoints, evaluation.

Meaning, unit, default and the source of the number; the rest: `train/config/settings.py`.

Tests: tests/train/config/test_every_setting.py.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from train.config.policy_names import check_policy
from train.config.section import Count, Different, Natural, Positive, Section, Share, Weight
from train.config.trl_arguments import TrlArguments

ServerUrl = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")]
Gpus = Annotated[list[Natural], Field(min_length=1), Different]
PolicyName = Annotated[str, AfterValidator(check_policy)]


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
    mistake_share: Share = 0.1
    """Share that makes a mistake and repairs it; the mistaken turn itself carries no loss."""
    learning_rate: Positive = 2e-4
    """Peak learning rate of AdamW; constant after the warm-up."""
    epochs: Positive = 2.0
    """Passes over the demonstrations."""
    tokens_per_batch: Count = 8192
    """Tokens per optimizer step on all devices together, prompt tokens included."""


class RolloutSettings(Section):
    """How episodes are played."""

    backend: Literal["auto", "transformers", "vllm"] = "auto"
    """What samples in GRPO: this process, or vLLM servers (docs/vllm.md).

    `auto`: vllm if `servers` or `start` is given, or with a GPU where `python` has it.
    """
    servers: Annotated[list[ServerUrl], Different] = []
    """vLLM servers that run already, such as http://node7:8100; started as docs/vllm.md says."""
    start: Count | None = None
    """vLLM servers to start on this machine, one GPU each; null: one per process or free GPU."""
    python: str | None = None
    """Interpreter of an environment that has vLLM (`make setup-vllm`); null: this one."""
    gpus: Gpus | None = None
    """GPUs of the servers to start; null: those behind the processes' own, or, if too few, theirs.

    On shared ones a server sleeps while the policy trains: its weights in host memory, no KV cache.
    """
    port: Annotated[int, Field(ge=1024, le=65000)] = 8100
    """Port of the first server to start, on 127.0.0.1; the others have the next ones."""
    server_args: list[str] = []
    """Further arguments of the servers to start, such as [--enforce-eager]; the last wins.

    A server takes 0.9 of its GPU's memory, of a shared one 0.5: --gpu-memory-utilization.
    """
    adapter_dir: str | None = None
    """Folder for the adapters that servers load; null: in the stage's folder.

    All servers must see it under this path: storage that their machines share.
    """
    max_staleness: Annotated[int, Field(ge=0, le=1)] = 0
    """Versions that a step's episodes may be older than the policy trained on them.

    1: those of the next step are played by the policy before this step's updates, as they would be
    beside them; weights of tokens correct for it (docs/off_policy.md).
    """
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
    resample: Natural = 0
    """Most further groups per step, played in the place of groups without signal; 0: none.

    All advantages of such a group are 0, those of cost included. The field calls it dynamic
    sampling (DAPO, arXiv 2503.14476).
    """
    curriculum: bool = False
    """Draw tasks towards those that this run has solved half the time, not in passes.

    By the counts in `solves.json`; how, and when that says little: train/rl/task_draws.py.
    """
    overlong: Literal["keep", "mask"] = "keep"
    """Episodes at the turn or token limit: trained as failures, or masked from the loss.

    Masked ones stay in the baseline of their group (`mask_overlong` in rewards/advantages.py).
    """
    updates_per_rollout: Count = 1
    """Optimizer updates per step, each on its share of the groups; divides `groups_per_step`.

    From the second on the policy has moved, and the loss clips how far (`grpo.trl.epsilon`).
    """
    importance_weights: Literal["auto", "token_truncate", "token_mask", "off"] = "auto"
    """Weights of tokens: the trainer's over the sampler's probability; docs/off_policy.md.

    `token_truncate`: at most 2; `token_mask`: 0 above 2; `auto`: `token_truncate` where they
    compute differently (bf16, 4 bits, vLLM), else `off`.
    """
    learning_rate: Positive = 5e-5
    """Learning rate of AdamW (betas 0.9, 0.95); constant after the warm-up."""
    kl_weight: Weight = 1e-3
    """Weight of the KL divergence to the frozen SFT adapter; TRL's `beta`."""
    tokens_per_microbatch: Count = 4096
    """Tokens computed per forward pass and device, padding included; bounds memory.

    On a CPU what rows begin with alike counts once, so more than one row's leaves more to share.
    GRPO's result does not depend on it; the warm start rounds its rows per step to such batches.
    """
    generation_batch: Count = 64
    """Episodes decoded at once per device or server; bounds the memory of the KV cache.

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

    Or `endpoint:http://HOST:PORT/v1#MODEL`, a chat server; docs/endpoints.md.

    `-greedy`: one episode per task; scripts such as `gold` are yardsticks.
    """
