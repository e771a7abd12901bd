"""What stands in the copy of a suite where assertions stood: it asks the same of other values.

    checks = Checks()
    checks.compare([total([1, 2]), 3], ["=="])  # was: assert total([1, 2]) == 3
    checks.end()  # raises, unless something held that must not

Each check asks what no plain value grants: that it equals one that differs by a unit, in one field
or one element, that it is less than itself, that an exception is of a kind beside its own. What
grants that is none of the values that a suite is about. This file is written into the copy and
runs there, in the candidate's process (`envs/grading/negated_asserts.py`). Standard library only.
Tests: tests/envs/grading/test_negated_asserts.py.

Not covered: lies that know this file.
"""

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

MOST_OTHERS = 8  # of one value
MAX_DEPTH = 3
_NUMBERS = ("int", "float", "complex", "Decimal", "Fraction")
_KINDS = (LookupError, ArithmeticError, OSError, AttributeError, TypeError, ValueError)
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda left, right: left in right,
    "not in": lambda left, right: left not in right,
}
_OPPOSITE = {"==": "!=", "<": ">=", ">": "<=", "in": "not in"}
_OPPOSITE |= {other: each for each, other in _OPPOSITE.items()}


class Checks:
    """The assertions of one test."""

    def __init__(self) -> None:
        self._held = False

    def note(self, _: object) -> None:
        """Take the value of an assertion of another form, which is asked nothing."""

    def compare(
        self,
        values: Sequence[Any],
        forms: Sequence[str],
        others: Sequence[Callable[[], Any]] = (),
        *,
        negated: bool = False,
    ) -> None:
        """Ask a chain of comparisons otherwise, or one that is negated.

        Args:
            values: Its operands.
            forms: Its operators.
            others: Each makes another value for the last operand.
            negated: Whether it was not to hold.
        """
        for at, form in enumerate(forms):
            left, right = values[at], values[at + 1]
            made = others if at == len(forms) - 1 else ()
            ask = _OPERATORS.get(form)
            if ask is None:  # whether it is the same object, about which nothing can lie
                continue
            asked = _OPPOSITE[form] if negated else form
            self._ask(partial(_holds, ask, negated), asked, left, right, made)

    def method(
        self,
        method: Callable[..., Any],
        form: str,
        left: Any,
        right: Any,
        *rest: Any,
        others: Sequence[Callable[[], Any]] = (),
        **named: Any,
    ) -> None:
        """Ask otherwise what a method asserts; that it raises nothing is a yes."""

        def ask(a: Any, b: Any) -> bool:
            method(a, b, *rest, **named)
            return True

        self._ask(ask, form, left, right, others)

    def close(
        self, is_close: Callable[..., Any], left: Any, right: Any, *rest: Any, **named: Any
    ) -> None:
        """Ask a function whether numbers are close that are far from each other."""
        self._ask(lambda a, b: bool(is_close(a, b, *rest, **named)), "~", left, right, ())

    def near(self, left: Any, right: Any, bound: Any) -> None:
        """Ask whether the difference to numbers that are far away is within a bound."""
        far = 1 + 2 * abs(bound)
        self._try(lambda: abs(left - (right + far)) <= bound)
        self._try(lambda: abs((left + far) - right) <= bound)

    def belongs(self, value: Any, kinds: Any) -> None:
        """Ask whether what belongs to no class of theirs is one of `kinds`."""
        del value
        self._try(lambda: object not in _flatten(kinds) and isinstance(_Stranger(), kinds))

    def raised(self, caught: Any, expected: Any) -> None:
        """Ask whether an exception is of kinds beside those that it was expected to be of."""
        value = getattr(caught, "value", None) or getattr(caught, "exception", None)
        expected = _flatten(expected)
        for kind in _KINDS:
            if not any(issubclass(kind, each) or issubclass(each, kind) for each in expected):
                self._try(isinstance, value, kind)
        if not any(each in (Exception, BaseException) for each in expected):
            self._try(issubclass, _StrangeError, expected)

    def end(self) -> None:
        """Fail, as a test must in which nothing held.

        Raises:
            AssertionError: Nothing did.
        """
        if not self._held:
            raise AssertionError

    def _ask(
        self,
        ask: Callable[[Any, Any], bool],
        form: str,
        left: Any,
        right: Any,
        others: Sequence[Callable[[], Any]],
    ) -> None:
        for pair in _list_pairs(form, left, right):
            self._try(ask, *pair)
        if form == "==":
            for make in others:
                self._try(_ask_made, ask, left, make)

    def _try(self, ask: Callable[..., Any], *values: Any) -> None:
        """Note whether it holds of values; what raises does not."""
        try:
            self._held |= bool(ask(*values))
        except Exception:
            return


def _holds(ask: Callable[[Any, Any], Any], negated: bool, left: Any, right: Any) -> bool:
    return bool(ask(left, right)) is not negated


def _ask_made(ask: Callable[[Any, Any], bool], left: Any, make: Callable[[], Any]) -> bool:
    return ask(left, make())


def _list_pairs(form: str, left: Any, right: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what must not hold if (left, right) does."""
    if form in ("==", "~"):
        far = form == "~"
        yield from ((left, other) for other in list_others(right, far=far))
        yield from ((other, right) for other in list_others(left, far=far))
    elif form == "!=":
        yield from ((left, left), (right, right))
    elif form in ("<", ">"):
        yield from ((right, left), (left, left), (right, right))
    elif form in ("<=", ">=") and type(right) in (int, float):
        yield (right + (1 if form == "<=" else -1), left)
    elif form == "in" and type(right) in (list, tuple, set, frozenset, dict):
        yield from ((other, right) for other in list_others(left, far=True))
        yield (left, [other for each in right for other in list_others(each, far=True)])
    elif form == "not in":
        yield from ((each, right) for each in list(right)[:1])


def list_others(value: Any, *, far: bool = False, depth: int = 0) -> list[Any]:
    """Return values of the same type that differ from one by a unit, an element or a field.

    Args:
        value: Any value.
        far: By more than its own size instead of a unit.
        depth: Of what it is a part.
    """
    try:
        return _make_others(value, far, depth)[:MOST_OTHERS]
    except Exception:  # its own code
        return []


def _make_others(value: Any, far: bool, depth: int) -> list[Any]:
    kind = type(value)
    if kind is bool:
        return [not value]
    if kind.__name__ in _NUMBERS:
        step = 1 + abs(value) if far else 1
        return [other for other in (value + step, value - step, kind(0)) if other != value][:2]
    if kind in (str, bytes):
        more = "x" if kind is str else b"x"
        return [value + more, value[:-1]] if value else [more]
    if kind in (set, frozenset):
        return [value | {_Stranger()}]
    if kind.__module__.startswith("_pytest."):  # pytest.approx
        tolerance = {name: getattr(value, name) for name in ("rel", "abs", "nan_ok")}
        return [kind(each, **tolerance) for each in list_others(value.expected, far=True)]
    if depth >= MAX_DEPTH:
        return []
    if kind in (list, tuple):
        parts = list(enumerate(value))
        changed = [
            kind([*value[:at], other, *value[at + 1 :]])
            for at, part in (*parts[:1], *parts[1:][-1:])
            for other in list_others(part, far=far, depth=depth + 1)[:2]
        ]
        return [kind([*value, _Stranger()]), *changed]
    if kind is dict:
        changed = [
            {**value, key: other}
            for key in list(value)[:2]
            for other in list_others(value[key], far=far, depth=depth + 1)[:2]
        ]
        return [{**value, _Stranger(): 0}, *changed]
    return _change_fields(value, far, depth)


def _change_fields(value: Any, far: bool, depth: int) -> list[Any]:
    """Return objects of the same class of which one field is another, or any object at all."""
    fields = [name for each in type(value).__mro__ for name in getattr(each, "__slots__", ())]
    fields += list(getattr(value, "__dict__", ()))
    found: list[Any] = []
    for name in fields[:MOST_OTHERS]:
        for other in list_others(getattr(value, name), far=far, depth=depth + 1)[:1]:
            changed = copy.copy(value)
            object.__setattr__(changed, name, other)
            found.append(changed)
    return found or [_Stranger()]


def _flatten(kinds: Any) -> tuple[Any, ...]:
    return (
        tuple(each for kind in kinds for each in _flatten(kind))
        if type(kinds) is tuple
        else (kinds,)
    )


class _Stranger:
    """Belongs to no class that a suite knows, and equals nothing else."""


class _StrangeError(Exception):
    """Is of no kind that a suite knows."""
