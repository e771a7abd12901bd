"""The turn at which an episode forks: taken with a rewrite, or without one, by the same policy.

A model is made to rewrite by the opening of its turn: the tokens of a call of `evict` or `compact`
as far as they are the same whatever is evicted or summed up. They count as sampled; the rest of the
call, and all behind it, the model writes. It is kept from rewriting by drawing its turn again until
it calls neither; if it always does, what else it called last is carried out alone.

A script is made to rewrite in a turn of its own, before its next one: it evicts all that is in
view, or sums up its edits. It is kept from it by leaving such calls out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from envs.environment import read_turn
from envs.errors import UserError
from envs.policies import ScriptedPolicy, call
from envs.records import Ids, Policy, Sample, ToolCall, View
from envs.rendering import ChatFormat
from envs.tools import REWRITES

Kind = Literal["evict", "compact"]

NUM_DRAWS: Final = 8
"""Draws of a model's turn, of which one is to hold no rewrite."""
_PROBES: Final[dict[Kind, tuple[ToolCall, ...]]] = {
    "evict": tuple(call("evict", observation_ids=ids) for ids in (["o1"], ["o2", "o3"], ["o14"])),
    "compact": tuple(call("compact", summary=text) for text in ("a b", "Fixed", "7 left", "'x'")),
}


class ForkedTurn(Protocol):
    """One policy at one fork, good for one turn there."""

    @property
    def policy(self) -> Policy:
        """Plays on afterwards."""
        ...

    def follow(self, view: View, sample: Sample) -> None:
        """See a turn before the fork.

        Raises:
            UserError: It is none that this policy would have taken.
        """

    async def rewrite(self, view: View, kind: Kind) -> Sample:
        """Return a turn that rewrites, if it is carried out."""
        ...

    async def refrain(self, view: View) -> Sample:
        """Return a turn that does not rewrite."""
        ...


@dataclass
class SampledTurn:
    """That of a model.

    Attributes:
        policy: Samples behind exactly the ids that it is given.
        chat: Its tokens.
        max_new_tokens: Most of a sample.
    """

    policy: Policy
    chat: ChatFormat
    max_new_tokens: int

    def follow(self, view: View, sample: Sample) -> None:
        """See a turn before the fork: a model remembers nothing beside its view."""

    async def rewrite(self, view: View, kind: Kind) -> Sample:
        """Open the turn, and let the model go on; what is too long is cut, as ever."""
        opening = find_opening(self.chat, kind)
        begun = view.model_copy(update={"prompt_ids": view.prompt_ids + opening})
        rest = await self.policy.act(begun)
        ids, logps = opening + rest.token_ids, (0.0,) * len(opening) + rest.sampling_logps
        most = self.max_new_tokens
        return Sample(
            token_ids=ids[:most],
            sampling_logps=logps[:most],
            finish=rest.finish if len(ids) <= most else "length",
        )

    async def refrain(self, view: View) -> Sample:
        """Draw until no call rewrites; or carry out the other calls of the last draw alone."""
        for _ in range(NUM_DRAWS):
            sample = await self.policy.act(view)
            _, calls = read_turn(sample, self.chat)
            others = _leave_out(calls)
            if len(others) == len(calls):
                return sample
        return _write(others, self.chat, self.max_new_tokens)


@dataclass
class ScriptedTurn:
    """That of a script, which is taken along through the turns before.

    Attributes:
        policy: Fresh.
        chat: Its tokens.
        max_new_tokens: Most of a sample.
    """

    policy: ScriptedPolicy
    chat: ChatFormat
    max_new_tokens: int

    def follow(self, view: View, sample: Sample) -> None:
        """Ask the script for the turn that it took; refuse one that it would not take."""
        if self.policy.next_sample(view).token_ids != sample.token_ids:
            raise UserError(
                "a script does not do again what it did in its episode",
                remedy="play it anew: tightrope evaluate with --clean",
            )

    async def rewrite(self, view: View, kind: Kind) -> Sample:
        """Rewrite with all that is in view."""
        if kind == "evict":
            made = call("evict", observation_ids=[each.id for each in view.observations])
        else:
            asked = self.policy.next_sample(view.model_copy(update={"asks_summary": True}))
            made = call("compact", summary=read_turn(asked, self.chat)[0])
        return _write([made], self.chat, self.max_new_tokens)

    async def refrain(self, view: View) -> Sample:
        """Take its next turn in which it does anything else."""
        while True:
            sample = self.policy.next_sample(view)
            _, calls = read_turn(sample, self.chat)
            others = _leave_out(calls)
            if len(others) == len(calls):
                return sample
            if others:
                return _write(others, self.chat, self.max_new_tokens)


def find_opening(chat: ChatFormat, kind: Kind) -> Ids:
    """Return the tokens with which every call of a tool begins, up to what it is called with."""
    first, *others = (chat.call_ids([each]) for each in _PROBES[kind])
    num = next(
        n for n, token in enumerate(first) if any(ids[n : n + 1] != (token,) for ids in others)
    )
    return first[:num]


def _leave_out(calls: Sequence[ToolCall]) -> list[ToolCall]:
    return [each for each in calls if each.name not in REWRITES]


def _write(calls: Sequence[ToolCall], chat: ChatFormat, max_new_tokens: int) -> Sample:
    """Return what is sampled to make these calls; malformed ones cannot be written again."""
    whole = [each for each in calls if each.error is None]
    ids = chat.call_ids(whole[: chat.max_calls])
    cut = ids[:max_new_tokens]
    return Sample(
        token_ids=cut,
        sampling_logps=(0.0,) * len(cut),
        finish="stop" if len(cut) == len(ids) else "length",
    )
