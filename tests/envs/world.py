"""A two-bug task with a tokenizer of its own: the episode machinery without a sandbox."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

from envs.environment import Environment, EpisodeMetadata, Limits
from envs.episode import run_episode
from envs.habits.options import ScriptOptions
from envs.policies import ScriptedPolicy, make_script
from envs.prompts import system_prompt
from envs.records import (
    Behaviour,
    Difficulty,
    Edit,
    Episode,
    HiddenTask,
    Outcome,
    Provenance,
    RepairTask,
    Sample,
    TestReport,
    Thresholds,
    ToolCall,
)
from envs.rendering import ChatFormat
from envs.tools import RunVisible, TurnDone
from envs.workers.workbench import Workbench
from envs.workspace import Changes
from train.models.tiny_tokenizer import task_corpus, train_tokenizer

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "m0.py": (
        'def qax(a, b):\n    """abs of a minus b"""\n    return abs(a + b)\n\n\n'
        'def lum(a, b):\n    """larger of 0 and a times b"""\n    return max(0, a * b)\n'
    ),
    "m1.py": 'def zor(a, b):\n    """twice a plus b"""\n    return 2 * (a - b)\n',
}
TASK = RepairTask(
    id="t1",
    project="world",
    split="train",
    statement="m0.py: qax(3, 5) returned 8, expected 2\nm1.py: zor(1, 2) returned -2, expected 6",
    workspace_sha="",
    editable=("m0.py", "m1.py"),
    visible_tests=("c0",),
    difficulty=Difficulty(sites=2, files=2, lines=11, failing_tests=2),
    provenance=Provenance(
        source="synthetic", origin="", licence="", sha256="", generator="", seed=0
    ),
)
HIDDEN = HiddenTask(
    task_id="t1",
    grader="io",
    fail_to_pass=("c0",),
    pass_to_pass=(),
    unseen_tests=(),
    operators=("arith_swap",),
    gold_edits=(
        Edit(path="m0.py", start=3, end=3, text="    return abs(a - b)"),
        Edit(path="m1.py", start=3, end=3, text="    return 2 * (a + b)"),
    ),
    gold_patch="",
    gold_spans=(),
)
SOLVED = Outcome(fail_to_pass_rate=1.0, pass_to_pass_rate=1.0, sandbox_level="none")
TOKENIZER = train_tokenizer(task_corpus([(TASK, HIDDEN, FILES)] * 20), vocab_size=600)
CHAT = ChatFormat(
    TOKENIZER,
    template=(ROOT / "train" / "models" / "templates" / "tiny.jinja").read_text(),
)


class OneTask:
    """A task set of this one task."""

    def __init__(self) -> None:
        self.public, self.hidden = {TASK.id: TASK}, {TASK.id: HIDDEN}

    def split(self, name: str) -> list[RepairTask]:
        return [TASK] if name == "train" else []

    def workspace(self, task: RepairTask) -> dict[str, str]:
        assert task.id == TASK.id
        return dict(FILES)

    def tests(self, hidden: HiddenTask) -> dict[str, str]:
        assert hidden.task_id == TASK.id
        return {}


class Believing:
    """A grader that runs nothing: a repair is what the gold edits say."""

    def grade(self, hidden: HiddenTask, files: dict[str, str]) -> Outcome:
        fixed = all(edit.text in files[edit.path] for edit in hidden.gold_edits)
        return SOLVED.model_copy(update={"fail_to_pass_rate": float(fixed)})

    def run_visible(self, task: RepairTask, files: dict[str, str], selector: str) -> TestReport:
        del task
        return no_tests(files, selector)


LIMITS = Limits(window_tokens=400, max_turns=12, max_new_tokens=48, observation_tokens=160)


def no_tests(files: dict[str, str], selector: str) -> TestReport:
    """Stand for a suite without tests."""
    del files, selector
    return TestReport(num_passed=0, failures=())


def new_environment(
    *,
    limits: Limits = LIMITS,
    strategy: str = "learned",
    thresholds: Thresholds | None = None,
    files: dict[str, str] = FILES,
    run_visible: RunVisible = no_tests,
    chat: ChatFormat = CHAT,
    tools: str = "none",
    without: Collection[Behaviour] = (),
) -> Environment:
    """Return a fresh environment of the task."""
    return Environment(
        TASK,
        files,
        chat=chat,
        system=system_prompt(
            tools,
            strategy,  # type: ignore[arg-type]
            example=chat.example,
            without=without,
        ),
        limits=limits,
        strategy=strategy,  # type: ignore[arg-type]
        thresholds=thresholds,
        without=without,
        run_visible=run_visible,
    )


def sample_of(calls: Sequence[ToolCall]) -> Sample:
    """Return what a model would sample to make these calls."""
    ids = CHAT.call_ids(calls)
    return Sample(token_ids=ids, sampling_logps=(-0.5,) * len(ids), finish="stop")


def sample_text(text: str, *, close: bool = True) -> Sample:
    """Return a sample of plain text, cut at its limit unless `close`."""
    ids = (*CHAT.encode(text), *((CHAT.eot_id,) if close else ()))
    finish = "stop" if close else "length"
    logps = (-0.5,) * len(ids)
    return Sample(token_ids=ids, sampling_logps=logps, finish=finish)  # type: ignore[arg-type]


def play(name: str, *, limits: Limits = LIMITS, options: ScriptOptions | None = None) -> Episode:
    """Play one scripted episode."""
    script = make_script(
        name,  # type: ignore[arg-type]
        task=TASK,
        hidden=HIDDEN,
        files=FILES,
        chat=CHAT,
        options=options,
    )
    policy = ScriptedPolicy(script, chat=CHAT, max_new_tokens=limits.max_new_tokens)
    metadata = EpisodeMetadata("g", 0, 0, name, 0, 0.0, False)
    return asyncio.run(
        run_episode(
            new_environment(limits=limits),
            policy,
            bench=InProcess(Workbench(OneTask(), Believing())),
            metadata=metadata,
            deadline_s=60,
        )
    )


class InProcess:
    """A workbench in this very process: nothing can end what hangs, so deadlines do not count."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench

    async def use_tools(
        self, task_id: str, changes: Changes, calls: Sequence[ToolCall], *, deadline_s: float
    ) -> TurnDone:
        """See `Bench`."""
        del deadline_s
        return self._workbench.use_tools(task_id, changes, calls)

    async def grade(self, task_id: str, files: dict[str, str], *, deadline_s: float) -> Outcome:
        """See `Bench`."""
        del deadline_s
        return self._workbench.grade(task_id, files)
