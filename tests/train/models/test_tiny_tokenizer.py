"""The tiny tokenizer: any text comes back, joints of a call are one token, digits are single."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.tools import NAMES
from tests.envs.world import FILES, HIDDEN, TASK, TOKENIZER
from train.models.tiny_tokenizer import SPECIAL, task_corpus, train_tokenizer


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    for special in SPECIAL:
        text = text.replace(special, "")
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text


@pytest.mark.parametrize("name", NAMES)
def test_a_call_costs_about_as_many_tokens_as_it_has_decisions(name: str) -> None:
    tokens = TOKENIZER.encode(json.dumps({"name": name, "arguments": {}})).tokens
    assert len(tokens) <= 3 + name.count("_") + 1
    assert tokens[0] == '{"name":\u0120"'


def test_digits_are_single_and_special_tokens_whole() -> None:
    assert TOKENIZER.encode("1234").tokens == list("1234")
    assert [TOKENIZER.encode(special).tokens for special in SPECIAL] == [[each] for each in SPECIAL]


def test_the_same_tasks_give_the_same_tokenizer() -> None:
    again = train_tokenizer(task_corpus([(TASK, HIDDEN, FILES)] * 20), vocab_size=600)
    assert again.to_str() == TOKENIZER.to_str()
