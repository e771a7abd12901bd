"""Results of one turn as one suffix of frozen ids, each cut to what the window leaves.

Each result carries a header with its id, its size and what remains. Nothing is cut silently: the
last line says how much is missing. Tests: tests/envs/test_episode.py.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from envs.prompts import SUMMARIZE
from envs.records import Ids, Observation, Observed, Span
from envs.rendering import ChatFormat
from envs.tools import ToolResult

MIN_OBSERVATION_TOKENS = 24  # header and a few words; with less only rewrite or submit
_NO_ROOM = "no room\n"  # for the results of the turn


@dataclass(frozen=True)
class Fitted:
    """What one turn adds to the view.

    Attributes:
        observed: The event.
        names: Of the tools, one per observation.
        versions: Of the workspace, when the lines of each observation were read.
        num_held: Tokens of the view with it.
    """

    observed: Observed
    names: tuple[str, ...]
    versions: tuple[int, ...]
    num_held: int


class Fitter:
    """Cuts results for one episode.

    Args:
        chat: Encodes.
        view_limit: Most tokens of a view.
        observation_tokens: Most tokens of a result, however much room there is.
    """

    def __init__(self, chat: ChatFormat, *, view_limit: int, observation_tokens: int) -> None:
        self._chat, self._view_limit, self._cap = chat, view_limit, observation_tokens
        self._num_request = 0

    def fit(
        self,
        results: Sequence[ToolResult],
        names: Sequence[str],
        *,
        used: int,
        num_before: int,
        asks: bool = False,
    ) -> Fitted | None:
        """Return the results of the calls `names` as an event; None if they do not fit.

        Args:
            results: What the tools said, in the order of their calls.
            names: Of the tools, 'none' where no call was made.
            used: Tokens of the view before.
            num_before: Observations of the episode before, for their ids.
            asks: A request for a summary stands behind the results, or alone if there are none.
        """
        if asks:
            told = SUMMARIZE if results else _NO_ROOM + SUMMARIZE
            names = [*names[: len(results)], "none"]
            results = [*results, ToolResult(told)]
        least = [MIN_OBSERVATION_TOKENS] * len(results)
        if asks:
            least[-1] = self.measure_request()
        parts = self._chat.surround_results(names)
        used += parts.num_tokens
        if self._view_limit - used < sum(least):
            return None
        observations, pieces = [], []
        for index, result in enumerate(results):
            room = self._view_limit - used - sum(least[index + 1 :])
            observation, ids = self._fit(result, f"o{num_before + index + 1}", used, room)
            used += len(ids)
            observations.append(observation)
            pieces.append(ids)
        observed = Observed(
            observations=tuple(observations),
            piece_ids=tuple(pieces),
            head_ids=parts.head,
            separator_ids=parts.separators,
            tail_ids=parts.tail,
            asks_summary=asks,
        )
        return Fitted(observed, tuple(names), tuple(each.version for each in results), used)

    def measure_request(self) -> int:
        """Return the most tokens of a request for a summary, header included."""
        if not self._num_request:
            texts = (_header("o9999", 9999, 9999), _NO_ROOM + SUMMARIZE)
            self._num_request = sum(len(self._chat.encode_result(text)) for text in texts)
        return self._num_request

    def measure_turn(self, *, max_new_tokens: int, asks: bool) -> int:
        """Return what a turn may take at least: the longest sample, and the smallest answer to it.

        Args:
            max_new_tokens: Of the sample.
            asks: The answer may be a request for a summary.
        """
        answer = self.measure_request() if asks else MIN_OBSERVATION_TOKENS
        return max_new_tokens + self._chat.surround_results(["none"]).num_tokens + answer

    def _fit(self, result: ToolResult, name: str, used: int, room: int) -> tuple[Observation, Ids]:
        """Encode a result with its header, cut to `room` tokens and to the cap."""
        encode = self._chat.encode_result
        header_tokens = len(encode(_header(name, 9999, 9999), continues=True))
        body, spans = self._cut(result, min(self._cap, max(0, room - header_tokens)))
        body_ids = encode(body)
        remaining = self._view_limit - used - len(body_ids)
        for _ in range(4):  # the number of digits may change the header's own length
            header = _header(name, len(body_ids), remaining)
            header_ids = encode(header, continues=True)
            exact = self._view_limit - used - len(body_ids) - len(header_ids)
            if exact == remaining:
                break
            remaining = exact
        observation = Observation(
            id=name,
            text=header + body,
            spans=spans,
            num_tokens=len(body_ids),
            remaining_tokens=remaining,
        )
        return observation, header_ids + body_ids

    def _cut(self, result: ToolResult, cap: int) -> tuple[str, tuple[Span, ...]]:
        """Keep the whole lines that fit into `cap` tokens and say what was cut."""
        if len(self._chat.encode_result(result.text)) <= cap:
            return result.text, result.spans
        lines = result.text.split("\n")

        def shortened(keep: int) -> str:
            note = f"\n[cut, {len(lines) - keep} more lines: use read_lines]"
            return "\n".join(lines[:keep]) + note

        # By halves, not line by line: a file of 1,100 lines took 11 s to cut (measured).
        keeps = range(1, len(lines))
        keep = bisect_right(keeps, cap, key=lambda n: len(self._chat.encode_result(shortened(n))))
        if keep:
            return shortened(keep), result.spans_within(keep)
        note = "[cut]"
        ids = self._chat.encode(lines[0])[: max(0, cap - len(self._chat.encode(note)) - 1)]
        return self._chat.decode(ids) + note, ()


def _header(name: str, size: int, left: int) -> str:
    return f"[{name} {size}/{left}]\n"
