"""What stands before the turns: system prompt, task, notes, summary; rendered and counted by kind.

Tests: tests/envs/context/test_budget.py.
"""

from collections.abc import Sequence

from envs.prompts import without_tools
from envs.records import Ids, Prefix, PrefixKind
from envs.rendering import ChatFormat


class PrefixWriter:
    """Renders the prefix of one episode: first the task alone, later with notes and summary.

    Args:
        chat: Encodes.
        system: The system prompt, tools included.
        task: The statement, and what else the first message says.
    """

    def __init__(self, chat: ChatFormat, *, system: str, task: str) -> None:
        self._chat, self._system, self._task = chat, system, task
        self._num_task = 0  # ids up to the end of the task

    def write(self, notes: Sequence[str] = (), summary: str = "") -> Prefix:
        """Return the frozen ids with these notes and this summary, and how many are of each kind.

        A token belongs to the part that brought it: the counts are differences between prefixes
        with and without it, so they add up to all ids.
        """
        summed = [f"so far: {summary}"] if summary else []
        ids = self._render(self._task, *notes, *summed)
        noted = len(self._render(self._task, *notes)) if notes and summed else len(ids)
        if not self._num_task:
            self._num_task = len(self._render(self._task) if notes or summed else ids)
        count = self._chat.count_system
        template = count("", schemas=False)
        text = count(without_tools(self._system), schemas=False)
        system = count(self._system, schemas=True)
        ends: dict[PrefixKind, int] = {
            "template": template,
            "system": text,
            "tools": system,
            "task": self._num_task,
            "notes": noted if notes else self._num_task,
            "summaries": len(ids),
        }
        starts = [0, *ends.values()]
        sizes = {
            kind: end - start for (kind, end), start in zip(ends.items(), starts, strict=False)
        }
        return Prefix(prefix_ids=ids, prefix_tokens={k: n for k, n in sizes.items() if n})

    def _render(self, *parts: str) -> Ids:
        return self._chat.prefix(system=self._system, user="\n".join(parts))
