"""Plays a reader's plan in the real environment, in a window of any size, ungraded.

A task is solved when what gold says was edited and submitted, each edit after all that it needs had
been in view, in the segment in which it is made. Results of reads are computed once per task.

Tests: tests/envs/readers/test_least_peak.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from envs.environment import Environment, Limits
from envs.habits.options import ScriptOptions
from envs.mutation.patches import apply_edits
from envs.policies import ScriptedPolicy, make_script
from envs.readers.needs import Line, find_needs, list_lines
from envs.readers.plans import Plan
from envs.readers.reads import Sources
from envs.records import Edit, HiddenTask, Observed, RepairTask, Sample, StopReason, ToolCall
from envs.rendering import ChatFormat
from envs.tools import Toolbox, ToolResult, no_sandbox

_THRIFTY = ScriptOptions(find="search", submit_with_edit=True, rewrite="none")
_SLACK = 4  # tokens by which a call may be shorter than it was taken to be
READS = ("read_lines", "read_file", "search")


@dataclass(frozen=True)
class Played:
    """How an episode went: whether it solved, and its largest view (tokens)."""

    solved: bool
    peak: int


@dataclass
class Game:
    """One task for readers.

    Attributes:
        task: Its public half.
        hidden: Its private half.
        files: Its broken workspace.
        chat: Encodes and counts.
        system: The system prompt.
        limits: Those of episodes; the window is another one in each play.
        num_plays: How often it was played so far.
    """

    task: RepairTask
    hidden: HiddenTask
    files: Mapping[str, str]
    chat: ChatFormat
    system: str
    limits: Limits
    num_plays: int = 0
    _results: dict[str, ToolResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.needs = find_needs(self.hidden, self.files)
        self.sources = Sources(self.files, self.chat, self.limits.observation_tokens)
        self._needed = {need.edit: need.to_see for need in self.needs}

    @cached_property
    def repaired(self) -> dict[str, str]:
        """Text of the files that the repair edits, as it leaves them."""
        edited = {edit.path: self.files[edit.path] for edit in self.hidden.gold_edits}
        return apply_edits(edited, self.hidden.gold_edits)

    def fits(self, calls: Sequence[ToolCall]) -> bool:
        """Tell whether the policy can write these calls in one turn."""
        most = self.chat.max_calls
        if most is not None and len(calls) > most:
            return False
        limit = self.limits.max_new_tokens
        if sum(map(self.sources.count_call, calls)) > limit + _SLACK * len(calls):
            return False  # without rendering them
        return len(self.chat.call_ids(calls)) <= limit

    def open(self, window: int) -> Environment:
        """Return a fresh environment with a window of so many tokens."""
        self.num_plays += 1
        return Environment(
            self.task,
            self.files,
            chat=self.chat,
            system=self.system,
            limits=replace(self.limits, window_tokens=window),
            strategy="learned",
        )

    def play(self, plan: Plan, window: int) -> Played:
        """Play a plan; it breaks off where an edit's lines are not in view."""
        environment, seen, peak = self.open(window), set[Line](), 0
        for turn in plan:
            view = environment.view().prompt_ids
            if environment.stop_reason is not None or not self._sees(turn, seen):
                return Played(False, peak)
            peak = max(peak, len(view))
            ids = self.chat.call_ids(turn)
            if len(ids) > self.limits.max_new_tokens:
                return Played(False, peak)
            calls = environment.begin(
                Sample(token_ids=ids, sampling_logps=(0.0,) * len(ids), finish="stop")
            )
            environment.finish(self._run(environment, calls))
            event = environment.events[-1]
            if not isinstance(event, Observed):
                seen = set()  # the context was rewritten
                continue
            for call, result in zip(calls, event.observations, strict=False):
                seen |= list_lines(result.spans) if call.name in READS else set()
        return Played(self.is_solved(environment), peak)

    def play_thrifty(self, window: int) -> Played:
        """Play the demonstrators' thriftiest reader, which looks for itself."""
        return self.play_demonstrator(window, _THRIFTY)

    def play_demonstrator(self, window: int, options: ScriptOptions) -> Played:
        """Play a demonstrator that knows the repair."""
        script = make_script(
            "careful",
            task=self.task,
            hidden=self.hidden,
            files=dict(self.files),
            chat=self.chat,
            options=options,
        )
        policy = ScriptedPolicy(script, chat=self.chat, max_new_tokens=self.limits.max_new_tokens)
        environment, peak = self.open(window), 0
        while environment.stop_reason is None:
            view = environment.view()
            peak = max(peak, len(view.prompt_ids))
            environment.step(policy.next_sample(view))
        return Played(self.is_solved(environment), peak)

    def is_solved(self, environment: Environment) -> bool:
        """Tell whether the gold repair was submitted."""
        now = environment.workspace.files
        return environment.stop_reason is StopReason.SUBMITTED and all(
            now[path] == text for path, text in self.repaired.items()
        )

    def _sees(self, turn: Sequence[ToolCall], seen: set[Line]) -> bool:
        edits = [edit for edit in self._needed if any(_makes(call, edit) for call in turn)]
        return all(self._needed[edit] <= seen for edit in edits)

    def _run(self, environment: Environment, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Carry out calls; reads before the first edit say the same in each play."""
        tools = Toolbox(environment.workspace, run_visible=no_sandbox)
        if environment.workspace.version or any(call.name not in READS for call in calls):
            return tools.run_turn(calls)
        for call in calls:
            key = call.model_dump_json()
            if key not in self._results:
                self._results[key] = tools.run_turn([call])[0]
        return [self._results[call.model_dump_json()] for call in calls]


def _makes(call: ToolCall, edit: Edit) -> bool:
    return call.name == "edit_lines" and call.arguments == edit.model_dump()
