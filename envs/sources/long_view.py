"""What one view of a long task says, to a script that knows the grammar and nothing else.

All of it is read from the text: the statement, notes and a summary behind it, the policy's own
calls, and the results that are still in view. Tests: tests/envs/sources/test_long_scripts.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.calls.reader import parse_calls
from envs.records import Observation, Span, View
from envs.rendering import ChatFormat
from envs.sources.facts import Fact, FactKind, count_rows, read_kind, read_use
from envs.tools import PARAMETERS

_SYMPTOM = re.compile(r"^(m\d+)\.py: (\w+)\(-?\d+, -?\d+\) (?:returned|raised) ", re.MULTILINE)
_NOTE = re.compile(r"^note (m\d+)\.py:\d+-\d+ (.*)$", re.MULTILINE)
_SUMMARY = re.compile(r"^so far: (.*)$", re.MULTILINE)
_HIT = re.compile(r"(m\d+\.py):(\d+): (.*)")
_LINE = re.compile(r"(\d+): ?(.*)")
_DEFINITION = re.compile(r"def (\w+)\(a, b\):")


@dataclass
class Seen:
    """What one view says.

    Attributes:
        symptoms: Module and function of each bug, in the order of the statement.
        lines: Text of the lines in view, by file and number.
        facts: The values that modules state, by name.
        noted: The modules of which a note, or a summary, says it.
        starts: Line of `def`, by file and function.
        needs: The modules whose fact a summary asks for.
        done: Modules that were repaired.
        moving: Notes that do not stand behind the task yet.
    """

    symptoms: list[tuple[str, str]]
    lines: dict[tuple[str, int], str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)
    starts: dict[tuple[str, str], int] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    moving: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, view: View, chat: ChatFormat) -> "Seen":
        """Read a view: statement, notes and summary, the policy's own calls, results."""
        turns = _split(view.prompt_ids, chat)
        text = "\n".join(turns)
        seen = cls(_SYMPTOM.findall(text))
        if summary := _SUMMARY.search(text):
            seen._read_summary(summary[1])
        for module, stated in _NOTE.findall(text):
            seen._take_note(module, stated)
        for each in (made for turn in turns for made in parse_calls(turn, PARAMETERS)):
            if each.name == "edit_lines":
                seen.done.append(str(each.arguments["path"]).removesuffix(".py"))
            if each.name == "note":
                path, stated = str(each.arguments["file"]), str(each.arguments["facts"])
                module = path.removesuffix(".py")
                if module not in seen.noted:
                    seen.moving.append(f"note {path}:{each.arguments['lines']} {stated}")
                seen._take_note(module, stated)
        for observation in view.observations:
            seen._read_result(observation)
        return seen

    def find_docstring(self, path: str, name: str) -> str | None:
        """Return the docstring of a function whose three lines are in view."""
        start = self.starts.get((path, name))
        if start is None or any((path, start + at) not in self.lines for at in range(3)):
            return None
        return self.lines[path, start + 1].strip(' "')

    def list_open(self) -> list[tuple[str, str]]:
        """Return the bugs that are left."""
        return [each for each in self.symptoms if each[0] not in self.done]

    def list_needed(self) -> list[Span]:
        """Return the lines that the bug in hand needs."""
        spans = []
        for module, name in self.list_open()[:1]:
            path = f"{module}.py"
            if start := self.starts.get((path, name)):
                spans.append(Span(path=path, start=start, end=start + 2))
            told = self.find_docstring(path, name)
            use = read_use(told) if told else None
            if use and use[1].module not in self.noted:
                end = 1 + count_rows(use[1].kind)
                spans.append(Span(path=f"{use[1].module}.py", start=1, end=end))
        return spans

    def summarize(self) -> str:
        """Say what is done, and of the bug in hand what is known and what is not."""
        parts = [f"fixed {' '.join(self.done)}"] if self.done else []
        for module, name in self.list_open()[:1]:
            if start := self.starts.get((f"{module}.py", name)):
                parts.append(f"at {module} {name} {start}")
            told = self.find_docstring(f"{module}.py", name)
            use = read_use(told) if told else None
            wanted = [use[1].module] if use else self.needs
            for each in wanted:
                known = each in self.facts and each not in self.noted
                parts.append(f"know {each} {self.facts[each]}" if known else f"need {each}")
        return "; ".join(parts) or "nothing yet"

    def _read_summary(self, summary: str) -> None:
        for part in summary.split("; "):
            verb, _, rest = part.partition(" ")
            if verb == "fixed":
                self.done += rest.split()
            elif verb == "know":
                self._take_note(*rest.split(" ", 1))
            elif verb == "need":
                self.needs.append(rest)
            elif verb == "at":
                module, name, start = rest.split()
                self.starts[f"{module}.py", name] = int(start)

    def _take_note(self, module: str, value: str) -> None:
        self.facts[module] = value
        self.noted.add(module)

    def _read_result(self, observation: Observation) -> None:
        for path, number, text in _list_lines(observation):
            self.lines[path, number] = text
            if found := _DEFINITION.match(text):
                self.starts[path, found[1]] = number
        for path in {span.path for span in observation.spans}:
            if (kind := self.find_kind(path)) is not None:
                rows = [self.lines.get((path, 2 + row)) for row in range(count_rows(kind))]
                if None not in rows:
                    fact = Fact(kind, tuple(map(str, rows)))
                    self.facts.setdefault(path.removesuffix(".py"), fact.value)

    def find_kind(self, path: str) -> FactKind | None:
        """Return what kind of fact a module states, if its first line is in view."""
        return read_kind(self.lines.get((path, 1), ""))


def _split(ids: Sequence[int], chat: ChatFormat) -> list[str]:
    """Decode a view, turn by turn."""
    turns: list[list[int]] = [[]]
    for each in ids:
        if each == chat.eot_id:
            turns.append([])
        else:
            turns[-1].append(each)
    return [chat.decode(turn) for turn in turns]


def _list_lines(observation: Observation) -> list[tuple[str, int, str]]:
    """Return file, number and text of the lines that a result shows."""
    found = []
    for row in observation.text.split("\n"):
        if hit := _HIT.fullmatch(row):
            found.append((hit[1], int(hit[2]), hit[3]))
        elif (line := _LINE.fullmatch(row)) and observation.spans:
            found.append((observation.spans[0].path, int(line[1]), line[2]))
    return found
