"""Frozen records of tasks, and what all records are made of; `envs/records.py` has the others.

Tests: tests/envs/test_plain_text.py.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from envs.plain_text import representable, version_or_unknown

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Ids = tuple[int, ...]
JsonValue = Any  # plain data: None, bool, int, float, str, list, tuple, dict
Text = Annotated[str, AfterValidator(representable)]  # of a model or a candidate


class Record(BaseModel):
    """Base of all records: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Span(Record):
    """Lines `start` to `end` of `path`, 1-based, both included."""

    path: str
    start: int
    end: int


class Edit(Record):
    """Replace lines `start` to `end` of `path` by `text`; `end = start - 1` inserts."""

    path: str
    start: int
    end: int
    text: str


class IoCase(Record):
    """One call, compared by exact type: `function` is `module:name`, `args` plain data.

    `expected` is the canonical encoding of `envs.sandbox.encoding.encode_value`, so 1, 1.0 and True
    differ.
    """

    id: str
    function: str
    args: tuple[JsonValue, ...]
    expected: str


class Difficulty(Record):
    """What makes a task hard: mutated sites, files that hold them, lines in the workspace."""

    sites: int
    files: int
    lines: int
    failing_tests: int
    call_distance: int | None = None
    traceback_names_function: bool | None = None
    trivial: bool | None = None  # as envs/tasks/trivial.py says


class Provenance(Record):
    """Where a task comes from, enough to build it again."""

    source: Literal["synthetic", "projects", "path"]
    origin: str
    licence: str
    sha256: str
    generator: str
    seed: int


class RepairTask(Record):
    """The public half of a task: all that an agent may learn."""

    id: str
    project: str
    split: Split
    statement: str
    workspace_sha: str
    editable: tuple[str, ...]
    visible_tests: tuple[str, ...]
    visible_cases: tuple[IoCase, ...] = ()
    difficulty: Difficulty
    provenance: Provenance


class Runtime(Record):
    """What a project's own tests need. Which interpreter that is, no task says.

    Attributes:
        python: Version of a user's, or 'unknown'; '' for the one that runs this project.
        requirements: Pins of the wheels that it needs beside pytest (`envs/sandbox/wheels.py`).
        environment: Names and values of variables that its tests see.
        paths: Folders below the root from which its modules are imported, as from the root.
        rewrites_asserts: pytest rewrites asserts, as for users; without, runs are faster.
    """

    python: Annotated[str, AfterValidator(version_or_unknown)] = ""
    requirements: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    paths: tuple[str, ...] = ("src",)
    rewrites_asserts: bool = False


class HiddenTask(Record):
    """The private half: never written to a workspace, never sent to a candidate's process.

    `limit_s` is how many seconds a grading may compute, and as many it may sleep. `calls` are the
    sequences that grade it of the recorded calls named `calls_sha`.
    """

    task_id: str
    grader: Literal["io", "pytest"]
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    unseen_tests: tuple[str, ...]
    cases: tuple[IoCase, ...] = ()
    tests_sha: str = ""
    calls_sha: str = ""
    calls: Ids = ()
    operators: tuple[str, ...]
    gold_edits: tuple[Edit, ...]
    gold_patch: str
    gold_spans: tuple[Span, ...]
    limit_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    runtime: Runtime = Runtime()
