"""Reads a junit file of pytest: which of the tests that were asked for passed, and which failed.

    told = read_junit(text, ["tests/test_a.py::test_b[1]"])
    told.passed, told.failed

The file comes from a process that ran submitted code, so nothing of it is believed but the names
and outcomes of test cases: no entity is defined, no tree is built, and one that is malformed, or
was cut, tells nothing. Tests: tests/envs/grading/test_junit_file.py.

Not covered: suites that give a test another name in the file (`record_xml_attribute`).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from xml.parsers import expat

_NOT_XML = re.compile("[^\t\n\r -~\x80-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_Name = tuple[str, str]  # class and name, as the file has them


@dataclass(frozen=True)
class JunitReport:
    """What the file says of tests: each passed, failed (errors included), or neither."""

    passed: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()


def read_junit(text: str, ids: Sequence[str]) -> JunitReport:
    """Return what the text of a file says of `ids`.

    Where the names of several tests come to the same, each counts as what all of them are.
    """
    cases = _Cases()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = cases.start
    parser.EndElementHandler = cases.end
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except (expat.ExpatError, _MalformedError):
        return JunitReport()
    names = {test_id: _name_in_file(test_id) for test_id in ids}
    expected = Counter(names.values())
    told = {name: cases.found.get(name, []) for name in expected}
    passed = {name for name, all_ in told.items() if all_ == ["passed"] * expected[name]}
    failed = {name for name, all_ in told.items() if len(all_) and set(all_) == {"failed"}}
    return JunitReport(
        frozenset(test_id for test_id, name in names.items() if name in passed),
        frozenset(test_id for test_id, name in names.items() if name in failed),
    )


class _MalformedError(Exception):
    """Raised out of the parser."""


def _refuse(*_: object) -> None:
    raise _MalformedError


class _Cases:
    """Notes the outcomes of test cases by name, as elements begin and end."""

    def __init__(self) -> None:
        self.found: defaultdict[_Name, list[str]] = defaultdict(list)
        self._name: _Name | None = None
        self._outcome = "passed"

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "testcase":
            if self._name is not None:
                raise _MalformedError
            self._name = attributes.get("classname", ""), attributes.get("name", "")
            self._outcome = "passed"
        elif tag in ("failure", "error"):
            self._outcome = "failed"
        elif tag == "skipped" and self._outcome == "passed":
            self._outcome = "skipped"

    def end(self, tag: str) -> None:
        if tag == "testcase" and self._name is not None:
            self.found[self._name].append(self._outcome)
            self._name = None


def _name_in_file(test_id: str) -> _Name:
    """Return what pytest makes of an id (`mangle_test_address` in `_pytest/junitxml.py`)."""
    address, bracket, parameters = test_id.partition("[")
    path, *names = address.split("::")
    parts = [path.replace("/", ".").removesuffix(".py"), *names]
    parts[-1] += bracket + parameters
    *classes, name = (_NOT_XML.sub(_escape, part) for part in parts)
    return ".".join(classes), name


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"#x{code:02X}" if code <= 0xFF else f"#x{code:04X}"
