"""Whatever comes from outside can be encoded and reads back; what cannot be is replaced visibly."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.errors import InfrastructureError
from envs.plain_text import MAX_DEPTH, plain_data, representable, visible
from envs.records import Compacted, Noted, Observation, Outcome, Sampled, TestReport, ToolCall
from tests.envs.world import CHAT

TEXT = st.text(
    st.sampled_from("a\n\r\t\0\x1b\x7f\x85\u2028\ud800\udcff\udfff\u0378\ufffe\U0001f600\\")
)
NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(4000, 9000).map(lambda n: -(10**n)))
DATA = st.recursive(
    st.one_of(TEXT, NUMBERS, st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(TEXT, inner, max_size=3),
        st.tuples(inner),
    ),
)


def nested(depth: int) -> object:
    value: object = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


TABLE = {
    "plain": ("a\u2028b\x00", "a\u2028b\x00"),
    "lone surrogates": ("a\ud800\udfff\udc80b", "a\\ud800\\udfff\\udc80b"),
    "halves in the wrong order": ("\ude00\ud83d", "\\ude00\\ud83d"),
    "four bytes": ("\U0001f600\U000e0001", "\U0001f600\U000e0001"),
    "unassigned": ("\u0378\uffff\ufdd0", "\u0378\uffff\ufdd0"),
}


@pytest.mark.parametrize(("text", "expected"), TABLE.values(), ids=TABLE.keys())
def test_only_what_cannot_be_encoded_is_replaced(text: str, expected: str) -> None:
    assert representable(text) == expected
    assert representable(expected) == expected


@given(TEXT)
def test_any_text_can_be_encoded_and_shown(text: str) -> None:
    assert CHAT.decode(CHAT.encode(representable(text))) == representable(text)
    shown = visible(text)
    assert all(character in "\t\n" or character.isprintable() or ord(character) > 160
               for character in shown)  # fmt: skip
    assert visible("\x1b[31m\0\ud800\u2028") == "\\x1b[31m\\x00\\ud800\\u2028"


@given(DATA)
def test_any_data_reads_back_as_written(value: object) -> None:
    plain = plain_data(value)
    assert json.loads(json.dumps(plain, ensure_ascii=False).encode()) == plain
    assert plain_data(plain) == plain
    call = ToolCall(name="x", arguments={"a": value})
    assert ToolCall.model_validate_json(call.model_dump_json().encode()) == call
    assert CHAT.call_ids([call])


@pytest.mark.parametrize("depth", [1, MAX_DEPTH - 1, MAX_DEPTH, 200, 300, 900])
def test_deep_arguments_are_cut_visibly(depth: int) -> None:
    call = ToolCall(name="x", arguments={"a": nested(depth)})
    line = call.model_dump_json()
    assert ToolCall.model_validate_json(line) == call
    assert ("nested too deep" in line) == (depth >= MAX_DEPTH)


REPLACED = {
    "nan": (math.nan, "nan"),
    "inf": (-math.inf, "-inf"),
    "huge": (10**5000, "(a number of thousands of digits)"),
    "almost": (10**4200, 10**4200),
    "key": ({"\ud800": 1, 2: 3}, {"\\ud800": 1, "2": 3}),
    "tuple": ((1, 2), [1, 2]),
    "other": ({1}, "{1}"),
}


@pytest.mark.parametrize(("value", "expected"), REPLACED.values(), ids=REPLACED.keys())
def test_what_json_lacks_becomes_a_text(value: object, expected: object) -> None:
    assert plain_data(value) == expected


@given(TEXT)
def test_records_of_any_text_read_back(text: str) -> None:
    told = representable(text)
    records = [
        Noted(path="x.py", start=1, end=1, facts=text),
        Compacted(summary=text, prefix_ids=(1,)),
        Observation(id="o1", text=text, num_tokens=1, remaining_tokens=1),
        TestReport(num_passed=0, failures=((text, text),)),
        Outcome(
            fail_to_pass_rate=0.0,
            pass_to_pass_rate=0.0,
            unscorable=str(InfrastructureError(text)),
            second_runner=text,
            sandbox_level="full",
        ),
        ToolCall(name=text, arguments={text: text}, error=text),
    ]
    for record in records:
        assert type(record).model_validate_json(record.model_dump_json().encode()) == record
        assert told in json.loads(json.dumps([*_texts(record.model_dump())]))


def _texts(value: object):
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else ():
        yield from _texts(each)
    for each in value if isinstance(value, list | tuple) else ():
        yield from _texts(each)


def test_log_probabilities_that_are_no_numbers_read_back() -> None:
    logps = (math.nan, -math.inf, -1.0)
    sampled = Sampled(token_ids=(1, 2, 3), sampling_logps=logps, finish="stop")
    again = Sampled.model_validate_json(sampled.model_dump_json())
    assert [str(logp) for logp in again.sampling_logps] == ["nan", "-inf", "-1.0"]


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_log_probabilities_are_written_with_the_digits_of_float32_and_read_back(
    values: list[float],
) -> None:
    ids = range(len(values))
    sampled = Sampled(token_ids=ids, sampling_logps=values, finish="stop")
    text = sampled.model_dump_json()
    again = Sampled.model_validate_json(text)
    assert list(again.sampling_logps) == values
    assert again.model_dump_json() == text
    numbers = json.loads(text)["sampling_logps"]
    assert all(len(f"{abs(number):e}".partition("e")[0]) <= 10 for number in numbers)
    old = json.dumps({"token_ids": list(ids), "sampling_logps": values, "finish": "stop"})
    assert Sampled.model_validate_json(old) == sampled
