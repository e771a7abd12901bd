"""What the tokens of a view are spent on, by kind: from an episode's record alone.

    budget = measure_budget(episode, turn=3)
    budget.observations["o2"], budget.free, budget.fits

A result that became a stub counts what the stub takes. `TextBudget` is the same of texts that no
episode holds. `tightrope budget` prints both.
"""

from abc import abstractmethod
from itertools import accumulate

from pydantic import computed_field

from envs.errors import UserError
from envs.records import (
    Compacted,
    Episode,
    Evicted,
    Ids,
    Observed,
    Opened,
    Record,
    Sampled,
)


class WindowBudget(Record):
    """What stands in a window, against its size.

    Attributes:
        window_tokens: Most that view and sample may take together.
        output_reserve: The longest sample; 0 in records of older versions.
    """

    window_tokens: int
    output_reserve: int

    @property
    @abstractmethod
    def held(self) -> int:
        """Tokens of the view."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def free(self) -> int:
        """Tokens left beside the reserve; below 0 where the view does not fit."""
        return self.window_tokens - self.output_reserve - self.held

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fits(self) -> bool:
        """Tell whether the view leaves room for the longest sample."""
        return self.free >= 0


class TextBudget(WindowBudget):
    """The tokens of texts that no episode holds, by name; a chat template's marks are not in."""

    tokens: dict[str, int]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def held(self) -> int:
        """Tokens of all texts."""
        return sum(self.tokens.values())


class Budget(WindowBudget):
    """The tokens of one view, by kind; with reserve and `free` they are the window.

    Attributes:
        turn: From 1.
        cached: Of the view: shared with prompt and sample of the turn before.
        template: The chat template's own marks, around all else.
        system: The system prompt without tools.
        tools: Their list, or their schemas.
        task: The statement, and the size of the window.
        notes: Their block behind the task; those made since stand among the calls of `assistant`.
        summaries: What stands for turns that were compacted.
        unsplit: All of the prefix, in records of older versions that do not say what it is.
        observations: Of each result in view, header included; the request for a summary is one.
        assistant: What was sampled, in view.
    """

    turn: int
    cached: int
    template: int = 0
    system: int = 0
    tools: int = 0
    task: int = 0
    notes: int = 0
    summaries: int = 0
    unsplit: int = 0
    observations: dict[str, int]
    assistant: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def held(self) -> int:
        """Tokens of the view."""
        kinds = (self.template, self.system, self.tools, self.task, self.notes, self.summaries)
        return sum(kinds) + self.unsplit + sum(self.observations.values()) + self.assistant


def measure_budget(episode: Episode, *, turn: int) -> Budget:
    """Return what the view of a turn, from 1, is made of.

    Raises:
        UserError: The episode has no such turn.
    """
    if not 1 <= turn <= len(episode.turns):
        raise UserError(
            "the episode has no such turn",
            got=f"turn {turn} of {len(episode.turns)}",
            remedy="name one from 1 on" if episode.turns else "it ended before its first",
        )
    samples = accumulate(isinstance(event, Sampled) for event in episode.events)
    num_events = next(at for at, number in enumerate(samples) if number == turn)
    prefix: Opened | Evicted | Compacted | None = None
    turns: list[Sampled | Observed] = []
    stubs: dict[str, Ids] = {}
    for event in episode.events[:num_events]:
        if isinstance(event, Sampled | Observed):
            turns.append(event)
        elif isinstance(event, Opened | Evicted | Compacted):
            prefix = event
            if isinstance(event, Evicted):
                stubs |= event.stub_ids
            else:
                turns = []
    assert prefix is not None, "a log begins with its prefix"
    kinds: dict[str, int] = dict(prefix.prefix_tokens.items())
    if not kinds:
        kinds["unsplit"] = len(prefix.prefix_ids)
    samples_in_view = [event for event in turns if isinstance(event, Sampled)]
    results = [event for event in turns if isinstance(event, Observed)]
    marks = sum(len(event.closing_ids) for event in samples_in_view)
    marks += sum(
        len(part)
        for event in results
        for part in (event.head_ids, *event.separator_ids, event.tail_ids)
    )
    kinds["template"] = kinds.get("template", 0) + marks
    return Budget(
        turn=turn,
        window_tokens=episode.window_tokens,
        cached=episode.turns[turn - 1].num_cached,
        observations={
            each.id: len(stubs.get(each.id, ids))
            for event in results
            for each, ids in zip(event.observations, event.piece_ids, strict=True)
        },
        assistant=sum(len(event.token_ids) for event in samples_in_view),
        output_reserve=episode.output_reserve,
        **kinds,
    )
