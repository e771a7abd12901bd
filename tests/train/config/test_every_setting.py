"""No setting is without effect: each changes what is observed, or is refused with the remedy.

Every field has a row. A new one fails `test_every_field_has_a_row` until it has one too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from envs.errors import UserError
from envs.grading.bwrap_runner import bubblewrap
from envs.tasks.store import TaskStore, write_built
from tests.envs.readers.long_task import build_long
from tests.train import observed
from tests.train.observed import Case
from tests.train.servers.stand_in import stand_in_python
from tests.train.small_run import add_warm_start, on_one_core
from train.config.settings import list_fields
from train.models.model import load_tokenizer, run_tokenizer

FOLDER = ("--model.base={folder}/base", "--model.tiny=[256, 4]")  # a pretrained base
BRIEF = ("--prompt.tools=brief", "--context.window_tokens=[1200, 1600]")
SUMMARIZE = ("--context.strategy=summarize",)
HYBRID = ("--context.strategy=hybrid",)
WIDE = ("--context.window_tokens=[336, 800]", "--sft.num_demonstrations=6")
LONG = ("--context.max_turns=40", "--context.max_sampled_tokens=2000", *WIDE)
CAREFUL = (*LONG, "--sft.wasteful_share=0")
MULTIPLES = "--context.window_tokens={of_least_peak: [0.5, 2], at_most: 2048}"
THINKING = "--model.chat_template={folder}/thinking.jinja"
SHORT_TURNS = ("--context.max_turns=2", "--context.max_new_tokens=16")
QUICK = (*SHORT_TURNS, "--grpo.groups_per_step=1", "--grpo.kl_weight=0.1")
SHORT = (*SHORT_TURNS, "--evaluate.policies=[base]")
BASE = ("--evaluate.policies=[base]",)
NOOP = ("--evaluate.policies=[noop]", "--evaluate.num_tasks=2")
OWN = "tests.train.config.own_functions"
PYTHON = ("--rollouts.python={folder}/python",)


@dataclass(frozen=True)
class Row:
    """`change` beside `beside` alters what `observe` returns."""

    change: str
    observe: Callable[[Case], Any]
    beside: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return self.change.partition("=")[0]


CHANGES = [
    Row("run.name=other", observed.places),
    Row("run.dir={own}/runs", observed.places),
    Row("run.cache={own}/cache", observed.places),
    Row("run.seed=1", observed.drawn),
    Row("run.deterministic=true", observed.torch_state),
    Row("model.base={folder}/base", observed.base, FOLDER[1:]),
    Row("model.tiny=[32, 1]", observed.random_base),
    Row("model.chat_template=chatml", observed.template, FOLDER),
    Row("model.dtype=bfloat16", observed.base),
    Row("model.precision=bf16", observed.grpo_args),
    Row("model.precision=bf16", observed.sft_args),
    Row("model.attn_implementation=eager", observed.base),
    Row("model.attn_implementation=eager", observed.random_base),
    Row("model.gradient_checkpointing=true", observed.grpo_args),
    Row("model.gradient_checkpointing=true", observed.sft_args),
    Row("model.lora_rank=4", observed.adapter),
    Row("model.lora_alpha=4", observed.adapter),
    Row("model.lora_targets=[q_proj, v_proj]", observed.adapter),
    Row("prompt.tools=brief", observed.prompt),
    Row(f"tasks.source={OWN}:one_function", observed.built),
    Row("prompt.template_args={deep: false}", observed.template, (*FOLDER, THINKING)),
    Row("tasks.dir={own}/elsewhere", observed.places),
    Row("tasks.train=4", observed.built),
    Row("tasks.dev=1", observed.built),
    Row("tasks.test=1", observed.built, ("--evaluate.num_tasks=1",)),
    Row("tasks.seed=1", observed.built),
    Row("tasks.two_site_share=1", observed.built),
    Row("tasks.max_size=[1, 1]", observed.built),
    Row("tasks.length=[2]", observed.built),
    Row("tasks.distractors=2", observed.built, ("--tasks.length=[2]",)),
    Row("tasks.difficulty={sites: [1, 1]}", observed.chosen),
    Row("context.strategy=full_history", observed.prompt, BRIEF),
    Row("context.strategy=full_history", observed.demonstrations, CAREFUL),
    Row("context.strategy=full_history", observed.gate, LONG[:3]),
    Row("context.window_tokens=[400, 401]", observed.drawn),
    Row("context.window_tokens={of_least_peak: [1, 1], at_most: 2048}", observed.drawn),
    Row("context.needs_rewrite_share=1", observed.mixed, (*LONG[:2], MULTIPLES)),
    Row("context.max_turns=3", observed.prompt),
    Row("context.max_new_tokens=32", observed.prompt),
    Row("context.observation_tokens=99", observed.prompt),
    Row("context.max_sampled_tokens=99", observed.prompt),
    Row("context.fill_threshold=[0.5, 0.5]", observed.thresholds, HYBRID),
    Row("context.keep_last=[7, 7]", observed.thresholds, HYBRID),
    Row("context.evict_batch=7", observed.thresholds, HYBRID),
    Row("context.strategy=learned_net", observed.thresholds),
    Row("context.without=[evict]", observed.prompt, BRIEF),
    Row("reward.outcome=graded", observed.scores),
    Row("reward.cost=price", observed.scores),
    Row("reward.cost_weight=0.1", observed.scores),
    Row("reward.advantage=default", observed.scores),
    Row(f"reward.advantage={OWN}:by_rank", observed.scores),
    Row("reward.pressure=controlled", observed.pressure),
    Row("reward.process_weight=0.05", observed.scores),
    Row("reward.context_action_weight=2", observed.weighed),
    Row("sft.num_demonstrations=2", observed.demonstrations, WIDE[:1]),
    Row("sft.wasteful_share=0", observed.demonstrations, WIDE),
    Row("sft.needs_rewrite_share=1", observed.demonstrations, CAREFUL),
    Row("sft.mistake_share=1", observed.demonstrations, WIDE),
    Row("sft.learning_rate=1e-4", observed.sft_args),
    Row("sft.epochs=1", observed.sft_args),
    Row("sft.tokens_per_batch=4096", observed.sft_args),
    Row("grpo.groups_per_step=3", observed.grpo_args),
    Row("grpo.group_size=2", observed.grpo_args),
    Row("grpo.max_steps=1", observed.trained, QUICK),
    Row("grpo.learning_rate=1e-4", observed.grpo_args),
    Row("grpo.kl_weight=0.1", observed.grpo_args),
    Row("grpo.resample=1", observed.trained, QUICK),
    Row("grpo.curriculum=true", observed.next_tasks),
    Row("grpo.overlong=mask", observed.scores),
    Row("grpo.updates_per_rollout=2", observed.trained, (*QUICK, "--grpo.groups_per_step=2")),
    Row("grpo.importance_weights=token_mask", observed.trained, QUICK),
    Row("grpo.tokens_per_microbatch=420", observed.trained, QUICK),
    Row("grpo.tokens_per_microbatch=420", observed.sft_args),
    Row("grpo.generation_batch=1", observed.evaluated, SHORT),
    Row("rollouts.max_staleness=1", observed.trained, QUICK),
    Row("rollouts.backend=vllm", observed.sampled_by, PYTHON),
    Row("rollouts.servers=[http://node7:8100]", observed.sampled_by),
    Row("rollouts.start=2", observed.planned),
    Row(PYTHON[0].removeprefix("--"), observed.planned),
    Row("rollouts.port=9100", observed.planned),
    Row("rollouts.server_args=[--enforce-eager]", observed.planned),
    Row("rollouts.adapter_dir={own}/adapters", observed.planned),
    Row("rollouts.prefill_tokens=64", observed.served),
    Row("rollouts.kept_kv_gb=0.5", observed.served),
    Row("rollouts.tool_workers=1", observed.served),
    Row("rollouts.tool_limit_s=7", observed.limited),
    Row("rollouts.turn_limit_s=7", observed.limited),
    Row("rollouts.episode_limit_s=7", observed.limited),
    Row("grpo.start_from={folder}/adapter", observed.start),
    Row("grpo.evaluate_every=null", observed.trained, QUICK),
    Row("grpo.trl={max_grad_norm: 0.5}", observed.grpo_args),
    Row("checkpoints.every=2", observed.trained, QUICK),
    Row("checkpoints.keep=1", observed.trained, QUICK),
    Row("checkpoints.keep=1", observed.sft_args),
    Row("evaluate.num_tasks=1", observed.evaluated, NOOP),
    Row("evaluate.num_samples=2", observed.specs, BASE),
    Row("evaluate.split=dev", observed.evaluated, NOOP),
    Row("evaluate.policies=[gold]", observed.specs, BASE),
]


@dataclass(frozen=True)
class Refused:
    """`change` beside `beside` is refused: where it is loaded, or by `observe`."""

    change: str
    said: str
    observe: Callable[[Case], Any] = lambda case: case.settings
    beside: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return self.change.partition("=")[0]


LARGE = ("--context.window_tokens=[1600, 1600]",)
SERVED = ("--rollouts.servers=[http://node7:8100]",)
FLASH = "model.attn_implementation=flash_attention_2"
REFUSALS = [
    Refused("model.tiny=[64, 2]", "model.tiny and model.base: .* has a shape", beside=FOLDER[:1]),
    Refused("model.chat_template=chatml", "is made for its own template; use 'tiny' or null"),
    Refused("model.lora_rank=640", "less than or equal to 512"),
    Refused("model.lora_targets=[all-linear, lm_head]", "vLLM serves no adapter on lm_head"),
    Refused("model.lora_targets=[model.embed_tokens]", "serves no adapter on model.embed_tokens"),
    Refused("model.lora_targets=[all-linear, q_proj]", "use it alone, or name each module"),
    Refused("model.lora_targets=[q_proj, k_prj]", "did you mean 'k_proj'", observed.adapter),
    Refused("model.lora_targets=[all_linear]", "did you mean 'all-linear'", observed.adapter),
    Refused("model.lora_targets=[mlp]", "no linear layer .*got: mlp", observed.adapter),
    Refused("model.load_in_4bit=true", "needs a GPU", observed.checked_base, FOLDER),
    Refused("model.load_in_4bit=true", "need fp32", beside=(*FOLDER, "--run.deterministic=true")),
    Refused("model.dtype=bfloat16", "need fp32", beside=("--run.deterministic=true",)),
    Refused(FLASH, "takes no float32, as the warm start of tiny"),
    Refused(FLASH, "takes no float32; use sdpa, or dtype bfloat16", beside=FOLDER),
    Refused("prompt.tools=full", "set prompt.tools to brief", observed.prompt, LARGE),
    Refused("tasks.two_site_share=0.5", "shapes generated", beside=("--tasks.source=projects",)),
    Refused("tasks.max_size=[2, 2]", "shapes generated", beside=("--tasks.source=projects",)),
    Refused("tasks.distractors=2", "they stand beside long tasks"),
    Refused("tasks.distractors=2", "shapes generated", beside=("--tasks.source=projects",)),
    Refused("tasks.length=[1, 4]", "in 2 to 4 files", beside=("--tasks.source=projects",)),
    Refused("tasks.length=[2]", "not of tests", beside=(f"--tasks.source={OWN}:one_function",)),
    Refused("tasks.length=[2, 9]", "less than or equal to 8"),
    Refused("tasks.recorded_calls=required", "no train task has recorded", observed.chosen),
    Refused("tasks.recorded_calls=required", "which needs none", beside=("--tasks.dir=null",)),
    Refused("tasks.python=python3", "no suite of these tasks needs a Python", observed.chosen),
    Refused("reward.second_runner_share=0.5", "no suite to run a second time", observed.chosen),
    Refused("reward.second_runner_share=0.5", "one runner", beside=("--tasks.dir=null",)),
    Refused("rollouts.gpus=[1]", "asks no server", beside=("--rollouts.backend=transformers",)),
    Refused("rollouts.gpus=[1]", "2 servers on 1 GPUs", beside=("--rollouts.start=2",)),
    Refused("rollouts.gpus=[]", "at least 1 item"),
    Refused("rollouts.gpus=[0, 1, 0]", "0 is named twice"),
    Refused("rollouts.servers=[http://a:1, http://a:1]", "http://a:1 is named twice"),
    Refused("rollouts.start=1", "these run already", beside=SERVED),
    Refused("rollouts.start=1", "depend on the batch", beside=("--run.deterministic=true",)),
    Refused("model.load_in_4bit=true", "would be another policy", beside=(*FOLDER, *SERVED)),
    Refused("rollouts.servers=[node7]", "match pattern"),
    Refused("reward.cost_weight=0.1", "cost be free", beside=("--reward.advantage=outcome_only",)),
    Refused(
        "reward.pressure=controlled", "cost be free", beside=("--reward.advantage=outcome_only",)
    ),
    Refused("sft.needs_rewrite_share=0.3", "use 0", beside=("--context.strategy=full_history",)),
    Refused("context.fill_threshold=[0.9, 0.5]", "above the most", beside=HYBRID),
    Refused("context.fill_threshold=[0.5, 0.6]", "use mask or summarize or hybrid"),
    Refused("context.keep_last=[1, 2]", "use mask or hybrid", beside=SUMMARIZE),
    Refused("context.evict_batch=9", "use mask or hybrid", beside=SUMMARIZE),
    Refused("sft.needs_rewrite_share=0.1", "too few to learn", beside=("--tasks.dir=null",)),
    Refused(
        "rollouts.max_staleness=1", "without weights", beside=("--grpo.importance_weights=off",)
    ),
    Refused("grpo.start_from={folder}/nowhere", "no adapter there", observed.start),
    Refused(
        "grpo.start_from={folder}/adapter",
        "lora_rank 8, not 4, lora_alpha 16, not 8.* --model.lora_rank='8'",
        observed.start,
        ("--model.lora_rank=4", "--model.lora_alpha=8"),
    ),
    Refused(
        "grpo.start_from={folder}/adapter",
        "--model.lora_targets='.down_proj, gate_proj, .*'",
        observed.start,
        ("--model.lora_targets=[q_proj]",),
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run up to its warm start, and a pretrained base and an adapter beside it."""
    with on_one_core():
        yield whole_run(tmp_path_factory.mktemp("settings"))


def whole_run(found: Path) -> Path:
    settings, _ = add_warm_start(found, num_train=16)
    store = TaskStore.open(found / "tasks")
    assert store.manifest is not None
    tasks = [*store.built(), *map(build_long, ("train", "dev"))]
    write_built(found / "tasks", tasks=tasks, manifest=store.manifest)
    tokenizer = load_tokenizer(run_tokenizer(settings))
    shape = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1}
    config = Qwen2Config(hidden_size=32, intermediate_size=64, vocab_size=len(tokenizer), **shape)
    Qwen2ForCausalLM(config).save_pretrained(found / "base")
    tokenizer.save_pretrained(found / "base")
    template = "{% if deep is defined and not deep %}{% endif %}" + tokenizer.chat_template
    (found / "thinking.jinja").write_text(template)
    model = observed.add_adapter(observed.load_base(settings), settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
    model.save_pretrained(found / "adapter")
    stand_in_python(found, (1,))
    return found


@pytest.fixture
def case(folder: Path, tmp_path: Path) -> Callable[..., Case]:
    """Make an experiment of overrides, in which {folder} and {own} are filled in."""

    def make(name: str, *overrides: str) -> Case:
        own = tmp_path / name
        own.mkdir()
        small = ("--tasks.train=6", "--tasks.dev=2", "--tasks.test=4")
        filled = [text.replace("{folder}", str(folder)) for text in (*small, *overrides)]
        return Case(folder, own, tuple(text.replace("{own}", str(own)) for text in filled))

    return make


def test_every_field_has_a_row() -> None:
    changed = {row.path for row in CHANGES}
    assert list_fields().keys() - changed <= {
        "model.load_in_4bit",  # refused here, where there is no GPU
        "rollouts.gpus",  # in tests/train/servers/test_start.py, for the same reason
        "reward.second_runner_share",  # has a test of its own below
        "tasks.recorded_calls",  # in tests/envs/grading/test_recorded_calls.py
        "run.report_to",  # in tests/train/rl/test_trackers.py
        "tasks.python",  # in tests/envs/projects/test_local_folder.py
    }
    assert {*changed, *(row.path for row in REFUSALS)} <= list_fields().keys()


@pytest.fixture(scope="module")
def unchanged() -> dict[Any, Any]:
    """What was observed beside a row's `beside`, without its change."""
    return {}


@pytest.mark.parametrize("row", CHANGES, ids=lambda row: f"{row.change} {row.observe.__name__}")
def test_a_field_changes_something(
    row: Row, case: Callable[..., Case], unchanged: dict[Any, Any]
) -> None:
    place = row.observe, row.beside
    if place not in unchanged:
        unchanged[place] = row.observe(case("before", *row.beside))
    assert row.observe(case("after", *row.beside, f"--{row.change}")) != unchanged[place]


SLOW = {"trained", "evaluated", "built", "demonstrations", "gate"}  # have tests of their own


FIRST = {row.observe.__name__: row for row in reversed(CHANGES)}


@pytest.mark.parametrize("name", sorted(FIRST.keys() - SLOW))
def test_what_is_observed_depends_on_nothing_else(name: str, case: Callable[..., Case]) -> None:
    row = FIRST[name]
    assert row.observe(case("first", *row.beside)) == row.observe(case("second", *row.beside))


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row.change} {row.beside}")
def test_what_would_change_nothing_is_refused(row: Refused, case: Callable[..., Case]) -> None:
    if row.said == "needs a GPU" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match=row.said):
        row.observe(case("refused", *row.beside, f"--{row.change}"))


@pytest.mark.skipif(bool(bubblewrap().failure), reason="no bubblewrap")
def test_the_second_runner_grades_its_share(case: Callable[..., Case]) -> None:
    projects = "--tasks.source=projects"
    assert observed.regraded(case("never", projects)) is None
    assert observed.regraded(case("always", projects, "--reward.second_runner_share=1")) == ""
