"""Frozen records of tasks, events, views, episodes and scores; all round-trip through JSON.

Every other part of the house speaks in these types; those of tasks stand in
`envs/task_records.py` and are imported from here. Token ids are ints of the policy's own
vocabulary, costs are in tokens, log-probs in nats. `Record.model_dump_json()` and
`model_validate_json()` are the file format; `SCHEMA_VERSION` changes when the meaning of a field
does. Tests: tests/envs/test_plain_text.py.
"""

from array import array
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, AliasChoices, Field, PlainSerializer, model_validator

from envs.plain_text import plain_data
from envs.task_records import (
    SPLITS,
    Difficulty,
    Edit,
    HiddenTask,
    Ids,
    IoCase,
    JsonValue,
    Provenance,
    Record,
    RepairTask,
    Runtime,
    Span,
    Split,
    Text,
)

__all__ = [  # also from here
    "SPLITS",
    "Difficulty",
    "Edit",
    "HiddenTask",
    "Ids",
    "IoCase",
    "JsonValue",
    "Provenance",
    "Record",
    "RepairTask",
    "Runtime",
    "Span",
    "Split",
    "Text",
]

SCHEMA_VERSION = 2

Strategy = Literal["full_history", "mask", "summarize", "hybrid", "learned", "learned_net"]
Behaviour = Literal[
    "list_files",
    "search",
    "outline",
    "read_lines",
    "read_file",
    "run_tests",
    "note",
    "evict",
    "compact",
    "plan",
]
"""What can be taken away: a tool that a repair can do without; `plan`: notes before a read."""


class StopReason(StrEnum):
    """Why an episode ended. Only the last two are failures of the infrastructure."""

    SUBMITTED = "submitted"
    TURN_LIMIT = "turn_limit"
    TOKEN_LIMIT = "token_limit"
    CONTEXT_OVERFLOW = "context_overflow"
    NO_TOOL_CALL = "no_tool_call"
    TIMEOUT = "timeout"
    ENVIRONMENT_ERROR = "environment_error"


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

    @property
    def body(self) -> str:
        """Its text without the header."""
        return self.text.partition("\n")[2]

    @property
    def was_refused(self) -> bool:
        """Whether its call could not be carried out, or none was made."""
        return self.body.startswith(("error: ", "no tool call, "))


PrefixKind = Literal["template", "system", "tools", "task", "notes", "summaries"]


class Prefix(Record):
    """What stands before the turns; `prefix_tokens` counts its ids by kind, {} in older records."""

    prefix_ids: Ids
    prefix_tokens: dict[PrefixKind, int] = Field(default_factory=dict)


def _shorten(values: tuple[float, ...]) -> list[float]:
    """Return numbers of the fewest of 8 or 9 digits that are the same in float32.

    Those of float64 are twice as long, and digits of this kind do not compress.
    """
    short = [float(f"{value:.8g}") for value in values]
    triples = zip(values, short, array("f", short), strict=True)
    return [digits if back == value else float(f"{value:.9g}") for value, digits, back in triples]


Logps = Annotated[
    tuple[float, ...],
    AfterValidator(lambda values: tuple(array("f", values))),
    PlainSerializer(_shorten, return_type=list[float], when_used="json"),
]
"""Log-probs (nats) in float32, as samplers compute them; written with no more digits than that."""


class Opened(Prefix):
    """First event: the frozen ids of system prompt, task and generation prompt."""

    kind: Literal["opened"] = "opened"


class Sampled(Record):
    """One model call.

    `closing_ids` is the unsampled end-of-turn of a sample cut at its limit (mask 0).
    """

    kind: Literal["sampled"] = "sampled"
    token_ids: Ids
    sampling_logps: Logps
    closing_ids: Ids = ()
    finish: Literal["stop", "length"]


class Observed(Record):
    """All results of one turn: `head`, pieces with a separator before each but the first, `tail`.

    Some templates name the tool in what they write before its result, so separators differ.
    Where it `asks_summary`, the last result is the request, and the next sample the summary.
    """

    kind: Literal["observed"] = "observed"
    asks_summary: bool = False
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


class Evicted(Prefix):
    """Observations that became one-line stubs; the prefix is rendered anew with all notes.

    `automatic` if the strategy chose them, not the model.
    """

    kind: Literal["evicted"] = "evicted"
    stub_ids: dict[str, Ids]
    automatic: bool = False


class Compacted(Prefix):
    """The whole history replaced by a summary, inside a prefix rendered anew.

    `automatic` if the summary was asked for.
    """

    kind: Literal["compacted"] = "compacted"
    summary: Text
    automatic: bool = False


Event = Annotated[
    Opened | Sampled | Observed | Noted | Evicted | Compacted, Field(discriminator="kind")
]


class View(Record):
    """Exactly what the model sees at one turn.

    `num_cached` ids are shared with the prompt and sample of the turn before. Where it
    `asks_summary`, what is sampled is the summary that replaces everything so far.
    """

    prompt_ids: Ids
    observations: tuple[Observation, ...]
    num_cached: int
    num_rewrites: int
    asks_summary: bool = False

    def shows(self, wanted: Span) -> bool:
        """Tell whether results in view show all lines of a span."""
        shown = [span for seen in self.observations for span in seen.spans]
        here = [(span.start, span.end) for span in shown if span.path == wanted.path]
        lines = range(wanted.start, wanted.end + 1)
        return all(any(a <= line <= b for a, b in here) for line in lines)


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


class Thresholds(Record):
    """When a strategy rewrites the context by itself; drawn once per group.

    Attributes:
        fill: Share of what may be held (the window less the output reserve) at which it acts.
        keep_last: Observations that masking leaves in view; None where nothing is masked.
        evict_batch: It masks when so many more than those are in view.
    """

    fill: Annotated[float, Field(gt=0, le=1)]
    keep_last: Annotated[int, Field(ge=1)] | None = None
    evict_batch: Annotated[int, Field(ge=1)] = 1


class Episode(Record):
    """The record of one rollout, enough to score, train and show it without anything else.

    `needs_rewrite`, once `forced`: in this window no scripted reader solves the task without a
    rewrite, measured under the prompt of `learned`, whatever the strategy of the episode.
    `output_reserve` is the most tokens of a sample; 0 in older records, which do not say.
    `gold_spans` are the task's, in the broken files; an older record has none.
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
    output_reserve: int = 0
    strategy: Strategy
    thresholds: Thresholds | None = None
    reference_cost: float
    gold_spans: tuple[Span, ...] = ()
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

    `loss_mask_T` is 1 on sampled tokens only. `weights_T` multiply the advantage, () by 1 all over.
    """

    episode_id: str
    token_ids_T: Ids  # noqa: N815 (shape suffix)
    loss_mask_T: tuple[int, ...]  # noqa: N815
    sampling_logps_T: tuple[float, ...]  # noqa: N815
    advantage: float
    weights_T: tuple[float, ...] = ()  # noqa: N815
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
