"""Frozen records of tasks, events, views, episodes and scores; all round-trip through JSON.

Every other part of the house speaks in these types. Token ids are ints of the policy's own
vocabulary, costs are in tokens, log-probs in nats. `Record.model_dump_json()` and
`model_validate_json()` are the file format; `SCHEMA_VERSION` changes when the meaning of a field
does. Tests: tests/envs/test_plain_text.py.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

from envs.plain_text import plain_data, representable, version_or_unknown

SCHEMA_VERSION = 2

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Strategy = Literal["full_history", "learned"]
Ids = tuple[int, ...]
JsonValue = Any  # plain data: None, bool, int, float, str, list, tuple, dict
Text = Annotated[str, AfterValidator(representable)]  # of a model or a candidate


class Record(BaseModel):
    """Base of all records: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class StopReason(StrEnum):
    """Why an episode ended. Only the last two are failures of the infrastructure."""

    SUBMITTED = "submitted"
    TURN_LIMIT = "turn_limit"
    TOKEN_LIMIT = "token_limit"
    CONTEXT_OVERFLOW = "context_overflow"
    NO_TOOL_CALL = "no_tool_call"
    TIMEOUT = "timeout"
    ENVIRONMENT_ERROR = "environment_error"


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


CallFormat = Literal["hermes", "xml", "native", "python", "fenced", "bare", "none"]
Repair = Literal[
    "alias",  # `parameters`, `args`, `input` for `arguments`; `tool`, `function`, ... for `name`
    "text_arguments",  # arguments as a JSON text
    "no_arguments",  # none, null or '' for {}
    "flat_arguments",  # beside the name, not in an object
    "positions",  # a Python call without names of arguments
    "quotes",  # single or triple quotes, names without quotes
    "literals",  # True, False, None
    "commas",  # one too many
    "escapes",  # a backslash that should have been two
    "newlines",  # raw in a text
    "brackets",  # too few or too many
    "unclosed",  # a whole call without its closing tag
]


class ToolCall(Record):
    """One parsed call.

    Attributes:
        name: The tool; may be '' when the text was malformed.
        arguments: By name; those of an `xml` call are texts. What would not read back as it was
            written is replaced (`envs.plain_text.plain_data`).
        format: How it was wrapped: `hermes` is JSON in `<tool_call>`, `xml` has an element per
            argument, `native` stands behind special marks of another family, `python` is a Python
            call, `fenced` and `bare` are JSON without such marks, `none` nothing at all.
        repairs: What had to be corrected to read it.
        error: What was expected, and where, when the text was malformed.
    """

    name: Text
    arguments: Annotated[dict[str, JsonValue], AfterValidator(plain_data)] = Field(
        default_factory=dict
    )
    format: CallFormat = "hermes"
    repairs: tuple[Repair, ...] = ()
    error: Text | None = None


class Observation(Record):
    """One tool result as the model reads it; `num_tokens` counts its body, `spans` were shown."""

    id: str
    text: Text
    spans: tuple[Span, ...] = ()
    num_tokens: int
    remaining_tokens: int


class Opened(Record):
    """First event: the frozen ids of system prompt, task and generation prompt."""

    kind: Literal["opened"] = "opened"
    prefix_ids: Ids


class Sampled(Record):
    """One model call.

    `closing_ids` is the unsampled end-of-turn of a sample cut at its limit (mask 0).
    """

    kind: Literal["sampled"] = "sampled"
    token_ids: Ids
    sampling_logps: tuple[float, ...]
    closing_ids: Ids = ()
    finish: Literal["stop", "length"]


class Observed(Record):
    """All results of one turn: `head`, pieces with a separator before each but the first, `tail`.

    Some templates name the tool in what they write before its result, so separators differ.
    """

    kind: Literal["observed"] = "observed"
    observations: tuple[Observation, ...]
    piece_ids: tuple[Ids, ...]
    head_ids: Ids
    separator_ids: tuple[Ids, ...]
    tail_ids: Ids

    @model_validator(mode="before")
    @classmethod
    def _read_version_1(cls, data: Any) -> Any:
        """Take records in which one separator stood for all."""
        if isinstance(data, dict) and isinstance(next(iter(data["separator_ids"]), None), int):
            num_separators = max(0, len(data["piece_ids"]) - 1)
            return data | {"separator_ids": [data["separator_ids"]] * num_separators}
        return data


class Noted(Record):
    """A note with its pointer, as it was when made."""

    kind: Literal["noted"] = "noted"
    path: str
    start: int
    end: int
    facts: Text


class Evicted(Record):
    """Observations that became one-line stubs; the prefix is rendered anew with all notes."""

    kind: Literal["evicted"] = "evicted"
    stub_ids: dict[str, Ids]
    prefix_ids: Ids


class Compacted(Record):
    """The whole history replaced by a summary, inside a prefix rendered anew."""

    kind: Literal["compacted"] = "compacted"
    summary: Text
    prefix_ids: Ids


Event = Annotated[
    Opened | Sampled | Observed | Noted | Evicted | Compacted, Field(discriminator="kind")
]


class View(Record):
    """Exactly what the model sees at one turn. `num_cached` ids are shared with the view before."""

    prompt_ids: Ids
    observations: tuple[Observation, ...]
    num_cached: int
    num_rewrites: int


class Sample(Record):
    """What a policy returns: sampled ids, end-of-turn included, and their log-probs (nats)."""

    token_ids: Ids
    sampling_logps: tuple[float, ...]
    finish: Literal["stop", "length"]


class Turn(Record):
    """One turn in its segment: prompt `[:prompt_end]`, sample `[prompt_end:sample_end]`."""

    segment: int
    prompt_end: int
    sample_end: int
    num_cached: int
    calls: tuple[ToolCall, ...]
    observation_ids: tuple[str, ...]


# What of the machine failed: a tool, a run of tests, a worker process, a server that samples, or it
# took too long.
FailedPart = Literal["tool", "visible_tests", "grading", "worker", "server", "timeout", "other"]

Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Outcome(Record):
    """What the grader found. Rates are over hidden tests.

    `unscorable` is an infrastructure cause in words, `failed_part` its class. `second_runner` and
    `recorded_calls` say why a pass is not believed (it then counts as tampered with, or as one of
    no test), '' if it is, None where they were not asked.
    """

    fail_to_pass_rate: Rate
    pass_to_pass_rate: Rate
    tampered: bool = False
    unscorable: Text | None = None
    failed_part: FailedPart | None = None
    second_runner: Text | None = None
    recorded_calls: Text | None = None
    sandbox_level: str


class Episode(Record):
    """The record of one rollout, enough to score, train and show it without anything else.

    `needs_rewrite`, once `forced`: no script gets by in this window without `evict` or `compact`.
    """

    schema_version: int = SCHEMA_VERSION
    task_id: str
    group_id: str
    sample_index: int
    seed: int
    policy: str
    policy_version: int
    window_tokens: int
    needs_rewrite: Annotated[bool, Field(validation_alias=AliasChoices("needs_rewrite", "forced"))]
    strategy: Strategy
    reference_cost: float
    events: tuple[Event, ...]
    segment_ids: tuple[Ids, ...]
    turns: tuple[Turn, ...]
    outcome: Outcome | None
    stop_reason: StopReason


class Score(Record):
    """What `rewards` makes of an episode: outcome in [0, 1], cost in tokens, advantage."""

    outcome: float
    solved: bool
    scorable: bool
    cost: float
    advantage: float
    components: dict[str, float]
    masked: bool = False  # no loss on its tokens, which are in no denominator


class Segment(Record):
    """One training row. All per-token tuples have length T.

    `loss_mask_T` is 1 on sampled tokens only.
    """

    episode_id: str
    token_ids_T: Ids  # noqa: N815 (shape suffix)
    loss_mask_T: tuple[int, ...]  # noqa: N815
    sampling_logps_T: tuple[float, ...]  # noqa: N815
    advantage: float
    staleness: int = 0  # versions between the policy that sampled it and the one in training


class Policy(Protocol):
    """Anything that can take a turn: a model behind a batcher, or a script."""

    async def act(self, view: View) -> Sample:
        """Return the next sample under exactly `view.prompt_ids`."""
        ...


class TestReport(Record):
    """Result of the visible tests: ids that failed with one trimmed message each."""

    __test__ = False  # not a test class for pytest

    num_passed: int
    failures: tuple[tuple[Text, Text], ...]
