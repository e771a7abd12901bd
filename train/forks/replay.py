"""Takes a fresh environment through the first turns of a saved episode, exactly.

    replay(environment, episode, num_turns=4)
    environment.view()                          # the view of the fifth turn, id for id

The samples are those of the record, and the environment does with them what it did: log, window,
notes, counters and workspace follow. Tools run again in this process, but for tests, which would
need a sandbox: what they said is in the record. Each view on the way is compared with the prompt
that was sampled under, so that another tokenizer, prompt, limit or task cannot go unnoticed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from envs.environment import Environment
from envs.errors import UserError
from envs.records import (
    Compacted,
    Episode,
    Event,
    Evicted,
    Observed,
    Sample,
    Sampled,
    TestReport,
    ToolCall,
    View,
)
from envs.tools import Toolbox, ToolResult

Follow = Callable[[View, Sample], None]
"""Sees each view on the way, and what was sampled there."""


def replay(
    environment: Environment,
    episode: Episode,
    *,
    num_turns: int,
    follow: Follow = lambda view, sample: None,
) -> None:
    """Play the first turns of an episode again; fewer than it has.

    Args:
        environment: A fresh one, of the episode's task and window.
        episode: As it was saved.
        num_turns: How many.
        follow: Called in each of them, before its sample is carried out.

    Raises:
        UserError: A view is not the recorded one.
    """
    _compare(environment, episode, turn=0)
    for number, (sampled, *rest) in enumerate(split_turns(episode)[:num_turns], start=1):
        assert isinstance(sampled, Sampled), "a turn begins with its sample"
        sample = Sample(
            token_ids=sampled.token_ids,
            sampling_logps=sampled.sampling_logps,
            finish=sampled.finish,
        )
        follow(environment.view(), sample)
        calls = environment.begin(sample)
        results = Toolbox(environment.workspace, run_visible=_run_nothing).run_turn(calls)
        environment.finish(_tell_tests(calls, results, rest))
        _compare(environment, episode, turn=number)


def split_turns(episode: Episode) -> list[list[Event]]:
    """Return the events of each turn, its sample first."""
    turns: list[list[Event]] = []
    for event in episode.events[1:]:
        if isinstance(event, Sampled):
            turns.append([])
        turns[-1].append(event)
    return turns


def has_rewritten(events: Sequence[Event]) -> bool:
    """Tell whether there is a rewrite of the policy's own among events."""
    return any(isinstance(e, Evicted | Compacted) and not e.automatic for e in events)


def _compare(environment: Environment, episode: Episode, *, turn: int) -> None:
    recorded = episode.turns[turn]
    prompt = episode.segment_ids[recorded.segment][: recorded.prompt_end]
    view = environment.view()
    is_same = view.prompt_ids == prompt and view.num_cached == recorded.num_cached
    if environment.stop_reason is None and is_same:
        return
    raise UserError(
        "an episode is not what its run would play today: it was recorded under another tokenizer, "
        "prompt, limit, task set or version",
        got=f"{episode.group_id}/{episode.sample_index}, turn {turn + 1}",
        remedy="play it anew: tightrope evaluate with --clean",
    )


def _run_nothing(files: dict[str, str], selector: str) -> TestReport:
    del files, selector
    return TestReport(num_passed=0, failures=())


def _tell_tests(
    calls: Sequence[ToolCall], results: Sequence[ToolResult], rest: Sequence[Event]
) -> list[ToolResult]:
    """Let runs of tests say what they said, as far as it was shown."""
    shown = next((each.observations for each in rest if isinstance(each, Observed)), ())
    told = list(results)
    for place, (call, result, observation) in enumerate(zip(calls, told, shown, strict=False)):
        if call.name == "run_tests" and not result.is_error:
            told[place] = replace(result, text=observation.body)
    return told
