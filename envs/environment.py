"""The environment of one episode: its event log, its window, and results fitted into what is left.

    calls = environment.begin(sample)      # the sample and its turn are logged, nothing is run yet
    environment.finish(results)            # what the tools said is shown; perhaps the episode ends

Between the two the tools run, wherever that is: the log is whole at every moment, so an episode
that the machine breaks off there is a record like any other.

A view never holds more than the window less one sample. Observations are cut so that one more
turn always fits; where that turn is all that fits, only a rewrite (`evict`, `compact`) or
`submit` goes on, anything else ends the episode with context_overflow, unless the strategy
rewrites by itself (`envs/context/strategies.py`).
Tests: tests/envs/test_episode.py.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from envs.calls.reader import parse_calls
from envs.context.event_log import EventLog
from envs.context.fitting import Fitted, Fitter
from envs.context.prefix import PrefixWriter
from envs.context.strategies import ASKING, plan_automatic, read_summary
from envs.prompts import answer_no_call
from envs.records import (
    Behaviour,
    Compacted,
    Episode,
    Event,
    Evicted,
    Noted,
    Observation,
    Opened,
    Outcome,
    Prefix,
    RepairTask,
    Sample,
    Sampled,
    Span,
    StopReason,
    Strategy,
    Thresholds,
    ToolCall,
    Turn,
    View,
)
from envs.rendering import ChatFormat
from envs.tools import (
    NAMES,
    PARAMETERS,
    RunVisible,
    Toolbox,
    ToolError,
    ToolResult,
    convert_call,
    explain_unknown_tool,
    list_tools,
    no_sandbox,
    parse_range,
)
from envs.workspace import Workspace

MAX_REWRITES = 8  # of the model's own
_MIN_FREED_SHARE = 0.10  # of the window: a smaller evict costs more than it saves


@dataclass(frozen=True)
class Limits:
    """Bounds of one episode; token counts in the policy's own tokens."""

    window_tokens: int
    max_turns: int
    max_new_tokens: int
    observation_tokens: int
    max_rewrites: int = MAX_REWRITES
    max_sampled_tokens: int = 1_000_000


@dataclass(frozen=True)
class EpisodeMetadata:
    """Who ran what: the fields of an `Episode` that the environment does not know."""

    group_id: str
    sample_index: int
    seed: int
    policy: str
    policy_version: int
    reference_cost: float
    needs_rewrite: bool
    gold_spans: tuple[Span, ...] = ()


def read_turn(sample: Sample, chat: ChatFormat) -> tuple[str, tuple[ToolCall, ...]]:
    """Return the text of a sample, without what ends its turn, and the calls in it."""
    is_stopped = sample.token_ids[-1:] and sample.token_ids[-1] in chat.stop_ids
    text = chat.decode(sample.token_ids[:-1] if is_stopped else sample.token_ids)
    return text, tuple(map(convert_call, parse_calls(text, PARAMETERS)))


class Environment:
    """One task's world: workspace, tools, event log and window.

    Args:
        task: The public task.
        files: Its broken workspace.
        chat: Encodes and parses for the policy.
        system: The system prompt.
        limits: Window and other bounds.
        strategy: Decides which tools there are.
        thresholds: When it rewrites by itself; without them it never does.
        without: Tools that are taken away; of `plan` notes before the first read.
        run_visible: Runs visible tests on given files, for `step`.
    """

    def __init__(
        self,
        task: RepairTask,
        files: Mapping[str, str],
        *,
        chat: ChatFormat,
        system: str,
        limits: Limits,
        strategy: Strategy,
        thresholds: Thresholds | None = None,
        without: Collection[Behaviour] = (),
        run_visible: RunVisible = no_sandbox,
    ) -> None:
        self.task, self.limits = task, limits
        self.workspace = Workspace.of(files, task.editable)
        self._chat, self._strategy, self._thresholds = chat, strategy, thresholds
        self._names, self._may_note = list_tools(strategy, without), "plan" not in without
        self._run_visible = run_visible
        self._notes: list[tuple[Noted, int]] = []
        self._summary = ""
        self._origins: dict[str, str] = {}
        self._silent_turns = 0
        self._calls: tuple[ToolCall, ...] = ()
        self._requested: str | None = None  # the summary that was asked for, once it is sampled
        self._turns: list[Turn] = []
        self.stop_reason: StopReason | None = None
        self._fitter = Fitter(
            chat, view_limit=self._view_limit, observation_tokens=limits.observation_tokens
        )
        self._automatic = plan_automatic(
            strategy,
            thresholds,
            view_limit=self._view_limit,
            turn_tokens=self._fitter.measure_turn(
                max_new_tokens=limits.max_new_tokens, asks=strategy in ASKING
            ),
        )
        opening = f"{task.statement}\nwindow {limits.window_tokens}"
        self._writer = PrefixWriter(chat, system=system, task=opening)
        self._log = EventLog([Opened(**dict(self._prefix()))])
        self._check_held()

    def view(self) -> View:
        """Return what the policy sees now."""
        return self._log.view()

    @property
    def events(self) -> list[Event]:
        """The log so far."""
        return self._log.events

    def begin(self, sample: Sample) -> tuple[ToolCall, ...]:
        """Log one sample with its turn and return the calls that are to be carried out.

        Of a summary that was asked for there are none: what it calls is not carried out.
        """
        view = self.view()
        last, eot = sample.token_ids[-1:], self._chat.eot_id
        sampled = Sampled(
            token_ids=sample.token_ids,
            sampling_logps=sample.sampling_logps,
            closing_ids=() if last == (eot,) else (eot,),
            finish=sample.finish,
        )
        text, self._calls = read_turn(sample, self._chat)
        if view.asks_summary:
            self._requested = read_summary(text, self._calls)
            self._calls = ()
        self._log.append(sampled)
        self._log_turn(view, sampled)
        return self._calls

    def finish(self, results: Sequence[ToolResult]) -> None:
        """Show what the calls of `begin` said, in their order, and maybe stop."""
        num_before = len(self._origins)
        if self._requested is not None:
            self._compact(self._requested, automatic=True)
            self._requested = None
        else:
            self._carry_out(self._calls, results)
        shown = tuple(f"o{n + 1}" for n in range(num_before, len(self._origins)))
        self._turns[-1] = self._turns[-1].model_copy(update={"observation_ids": shown})
        if self.stop_reason is None:
            self._check_limits()

    def step(self, sample: Sample) -> None:
        """Apply one sample with its tools in this very process, which nothing can end."""
        tools = Toolbox(self.workspace, run_visible=self._run_visible)
        self.finish(tools.run_turn(self.begin(sample)))

    def play_out(self, next_sample: Callable[[View], Sample]) -> None:
        """Take one step after another until the episode ends; nothing is graded."""
        while self.stop_reason is None:
            self.step(next_sample(self.view()))

    def record(self, metadata: EpisodeMetadata, *, outcome: Outcome | None) -> Episode:
        """Return the whole episode as a record."""
        assert self.stop_reason is not None, "the episode still runs"
        return Episode(
            task_id=self.task.id,
            window_tokens=self.limits.window_tokens,
            output_reserve=self.limits.max_new_tokens,
            strategy=self._strategy,
            thresholds=self._thresholds,
            events=tuple(self.events),
            segment_ids=self._log.segment_ids(),
            turns=tuple(self._turns),
            outcome=outcome,
            stop_reason=self.stop_reason,
            **vars(metadata),
        )

    @property
    def _view_limit(self) -> int:
        return self.limits.window_tokens - self.limits.max_new_tokens

    @property
    def _least_freed(self) -> int:
        return int(_MIN_FREED_SHARE * self.limits.window_tokens)

    def _carry_out(self, calls: tuple[ToolCall, ...], answers: Sequence[ToolResult]) -> None:
        self._silent_turns = 0 if calls else self._silent_turns + 1
        results: list[ToolResult] = []
        evicted: list[str] = []
        # nothing is carried out behind a submit, so there may be fewer answers than calls
        for index, (call, answer) in enumerate(zip(calls, answers, strict=False)):
            try:
                if call.error is None and call.name not in self._names:
                    raise ToolError(explain_unknown_tool(self._names))
                if call.name == "note" and call.error is None and not self._may_note:
                    raise ToolError("notes are of what was read: read first")
                if call.name in ("evict", "compact") and call.error is None:
                    self._check_rewrite(call, is_last=index == len(calls) - 1, evicted=evicted)
                if call.name == "compact" and any(result.is_error for result in results):
                    raise ToolError("not compacted: an earlier call of this turn failed")
            except ToolError as error:
                results.append(ToolResult(f"error: {error}", is_error=True))
                continue
            results.append(answer)
            if answer.is_error:
                continue
            if call.name == "submit":
                self.stop_reason = StopReason.SUBMITTED
                return
            if call.name == "compact":
                self._compact(str(call.arguments["summary"]))
                return
            if call.name == "evict":
                evicted += call.arguments["observation_ids"]
            if call.name == "note":
                self._note(call, version=answer.version)
            self._may_note |= call.name in ("read_lines", "read_file")
        if self._silent_turns >= 2:
            self.stop_reason = StopReason.NO_TOOL_CALL
            return
        self._observe(results or [ToolResult(answer_no_call(self._chat.example))], calls, evicted)

    def _observe(
        self, results: list[ToolResult], calls: tuple[ToolCall, ...], evicted: list[str]
    ) -> None:
        """Append all results as one suffix, cut to what the window leaves, then any evict."""
        names = [call.name for call in calls[: len(results)]] or ["none"]
        eviction = self._evict(evicted) if evicted else None
        fitted = self._fit(results, names, eviction)
        shown, num_new = self.view().observations, len(results)
        held = fitted.num_held if fitted else None
        masked = self._automatic.list_masked(shown, num_new=num_new, num_held=held)
        if masked:
            mask = self._evict(masked, automatic=True)
            is_batch = len(masked) >= self._automatic.evict_batch or fitted is None
            if self._log.count_freed(mask) >= (1 if is_batch else self._least_freed):
                eviction, fitted = mask, self._fit(results, names, mask)
        if self._automatic.asks(fitted.num_held if fitted else None):
            request = self._fit(results, names, eviction, asks=True)
            fitted = request or self._fit([], [], eviction, asks=True) or fitted
        if fitted is None:
            self.stop_reason = StopReason.CONTEXT_OVERFLOW
            return
        self._show(fitted)
        if eviction:
            self._log.append(eviction)

    def _fit(
        self,
        results: list[ToolResult],
        names: list[str],
        eviction: Evicted | None,
        *,
        asks: bool = False,
    ) -> Fitted | None:
        used = self._log.count_after(eviction) if eviction else self._log.num_tokens
        return self._fitter.fit(results, names, used=used, num_before=len(self._origins), asks=asks)

    def _show(self, fitted: Fitted) -> None:
        shown = zip(fitted.observed.observations, fitted.names, fitted.versions, strict=True)
        for observation, name, version in shown:
            for span in observation.spans:
                self.workspace.show(span, version=version)
            self._origins[observation.id] = name if name in (*NAMES, "none") else "error"
        self._log.append(fitted.observed)

    def _check_rewrite(self, call: ToolCall, *, is_last: bool, evicted: list[str]) -> None:
        if self._log.num_own_rewrites >= self.limits.max_rewrites:
            raise ToolError(f"at most {self.limits.max_rewrites} rewrites")
        if call.name == "compact":
            if not is_last:
                raise ToolError("compact must be the last call of its turn")
            return
        wanted = call.arguments.get("observation_ids")
        live = {o.id for o in self.view().observations} - set(evicted)
        if not isinstance(wanted, list) or not wanted or not set(map(str, wanted)) <= live:
            raise ToolError("evict takes ids of results in view")
        freed = self._log.count_freed(self._evict([*evicted, *wanted]))
        if freed < self._least_freed:
            raise ToolError(f"frees {freed} tokens, at least {self._least_freed} needed")

    def _stub(self, observation: Observation) -> str:
        where = " ".join(f"{s.path}:{s.start}-{s.end}" for s in observation.spans[:2])
        return f"[{observation.id} out {where or self._origins[observation.id]}]"

    def _evict(self, ids: Sequence[str], *, automatic: bool = False) -> Evicted:
        """Make the event that leaves stubs of these observations in view."""
        chosen = [
            observation for observation, _ in self._log.list_results() if observation.id in ids
        ]
        stubs = {each.id: self._chat.encode_result(self._stub(each)) for each in chosen}
        return Evicted(stub_ids=stubs, automatic=automatic, **dict(self._prefix()))

    def _compact(self, summary: str, *, automatic: bool = False) -> None:
        self._summary = summary
        prefix = dict(self._prefix())
        self._log.append(Compacted(summary=summary, automatic=automatic, **prefix))
        self._check_held()

    def _check_held(self) -> None:
        if self._log.num_tokens > self._view_limit:
            self.stop_reason = StopReason.CONTEXT_OVERFLOW

    def _note(self, call: ToolCall, *, version: int) -> None:
        arguments = call.arguments
        found = parse_range(arguments["lines"])
        assert found is not None, "the tool checked the range"
        start, end = found
        noted = Noted(path=arguments["file"], start=start, end=end, facts=arguments["facts"])
        self._notes.append((noted, version))
        self._log.append(noted)

    def _prefix(self) -> Prefix:
        """Render system prompt and task, with the notes (pointers moved along) and the summary."""
        notes = []
        for noted, version in self._notes:
            span = Span(path=noted.path, start=noted.start, end=noted.end)
            now = self.workspace.moved(span, since=version)
            notes.append(f"note {now.path}:{now.start}-{now.end} {noted.facts}")
        return self._writer.write(notes, self._summary)

    def _log_turn(self, view: View, sampled: Sampled) -> None:
        prompt_end = len(view.prompt_ids)
        self._turns.append(
            Turn(
                segment=self._log.segment,
                prompt_end=prompt_end,
                sample_end=prompt_end + len(sampled.token_ids),
                num_cached=view.num_cached,
                calls=self._calls,
                observation_ids=(),
            )
        )

    def _check_limits(self) -> None:
        sampled = sum(turn.sample_end - turn.prompt_end for turn in self._turns)
        if len(self._turns) >= self.limits.max_turns:
            self.stop_reason = StopReason.TURN_LIMIT
        elif sampled >= self.limits.max_sampled_tokens:
            self.stop_reason = StopReason.TOKEN_LIMIT
