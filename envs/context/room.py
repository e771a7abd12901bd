"""What turns take and evictions free, as a script judges it before it acts.

Tests: tests/envs/test_policies.py.
"""

from collections.abc import Sequence

from envs.context.fitting import MIN_OBSERVATION_TOKENS
from envs.records import Observation, ToolCall, View
from envs.rendering import ChatFormat

_HEADER = "[o9 99/99]\n"  # of a result where room is short
_FREED_SHARE = 0.10  # of the window: what an evict must free at least (envs/environment.py)


class Room:
    """Counts in the tokens of one policy.

    Args:
        chat: Encodes calls and results.
        reserve_tokens: Of the window, for what is sampled.
    """

    def __init__(self, chat: ChatFormat, *, reserve_tokens: int) -> None:
        self._chat, self._reserve_tokens = chat, reserve_tokens

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        return len(self._chat.encode(text))

    def measure_turn(self, calls: Sequence[ToolCall], results: Sequence[str]) -> int:
        """Return the tokens of calls and of their results, in as many turns as they need."""
        most = self._chat.max_calls or len(calls)
        total = sum(self.count(_HEADER + result) for result in results)
        for part in (calls[i : i + most] for i in range(0, len(calls), most)):
            parts = self._chat.surround_results([each.name for each in part])
            total += len(self._chat.call_ids(part)) + parts.num_tokens
        return total

    def goes_on(self, view: View, calls: Sequence[ToolCall]) -> bool:
        """Tell whether an episode goes on with these calls, however their results are cut."""
        if not view.observations:
            return True
        least = MIN_OBSERVATION_TOKENS * len(calls)
        return view.observations[-1].remaining_tokens >= self.measure_turn(calls, ()) + least

    def frees_enough(self, view: View, used_up: Sequence[Observation]) -> bool:
        """Tell whether the environment would carry out an evict of these results."""
        if not used_up:
            return False
        window = view.observations[-1].remaining_tokens + len(view.prompt_ids)
        window += self._reserve_tokens
        return self.count_freed(used_up) >= int(_FREED_SHARE * window)

    def count_freed(self, used_up: Sequence[Observation]) -> int:
        """Return the tokens that an evict of these results frees."""
        where = (" ".join(f"{s.path}:{s.start}-{s.end}" for s in o.spans[:2]) for o in used_up)
        stubs = (f"[{o.id} out {place}]" for o, place in zip(used_up, where, strict=True))
        return sum(self.count(o.text) for o in used_up) - sum(map(self.count, stubs))
