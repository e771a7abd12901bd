from dataclasses import replace
from pathlib import Path

import pytest

from envs.environment import Environment, Limits
from envs.policies import ScriptedPolicy
from envs.records import StopReason
from envs.rendering import ChatFormat
from envs.sources.long_scripts import shown_only, sighted
from envs.sources.synthetic import DEFAULTS, generate
from envs.tasks.validate import apply_gold
from train.models.tiny_tokenizer import task_corpus, train_tokenizer

TEMPLATE = Path(__file__).parents[3] / "train/models/templates/tiny.jinja"
LIMITS = Limits(window_tokens=420, max_turns=60, max_new_tokens=64, observation_tokens=160)


def make(length, count=2, distractors=1):
    sizes = replace(DEFAULTS, num_functions=(2, 3), length=(length,), distractors=distractors)
    return list(generate(count, split="test", seed=0, settings=sizes))


@pytest.fixture(scope="module")
def chat():
    tasks = [task for length in (2, 4, 8) for task in make(length, count=8)]
    corpus = task_corpus((task.public, task.hidden, task.workspace) for task in tasks)
    return ChatFormat(train_tokenizer(corpus), template=TEMPLATE.read_text())


def open_episode(task, chat, limits=LIMITS):
    return Environment(
        task.public,
        task.workspace,
        chat=chat,
        system="Repair the code.",
        limits=limits,
        strategy="learned",
    )


def play(task, chat, script, limits=LIMITS):
    """Play a script; return the environment and the views."""
    environment, views = open_episode(task, chat, limits), []
    policy = ScriptedPolicy(script, chat=chat, max_new_tokens=limits.max_new_tokens)
    while environment.stop_reason is None:
        views.append(environment.view())
        environment.step(policy.next_sample(views[-1]))
    return environment, views


def is_solved(task, environment):
    is_gold = environment.workspace.files == apply_gold(task)
    return environment.stop_reason is StopReason.SUBMITTED and is_gold


def is_in(span, seen):
    return any(s.path == span.path and s.start <= span.start <= span.end <= s.end for s in seen)


@pytest.mark.parametrize("habit", ["note", "compact"])
@pytest.mark.parametrize(("length", "window"), [(2, 420), (4, 540), (8, 1050)])
def test_who_knows_only_what_it_saw_solves_where_it_has_to_rewrite(chat, habit, length, window):
    limits = replace(LIMITS, window_tokens=window)
    for task in make(length):
        environment, views = play(
            task, chat, sighted(chat=chat, limits=limits, habit=habit), limits
        )
        assert is_solved(task, environment)
        assert max(len(view.prompt_ids) for view in views) <= window - limits.max_new_tokens
        assert views[-1].num_rewrites or length == 2


@pytest.mark.parametrize("habit", ["note", "compact"])
def test_it_has_no_memory_but_the_view(chat, habit):
    (task,) = make(4, count=1)
    limits = replace(LIMITS, window_tokens=520)
    environment = open_episode(task, chat, limits)
    while environment.stop_reason is None:  # a fresh script each turn
        script = sighted(chat=chat, limits=limits, habit=habit)
        policy = ScriptedPolicy(script, chat=chat, max_new_tokens=limits.max_new_tokens)
        environment.step(policy.next_sample(environment.view()))
    assert is_solved(task, environment)


@pytest.mark.parametrize("habit", ["note", "compact"])
def test_what_it_did_not_see_it_does_not_know(chat, habit):
    (task,) = make(2, count=1)
    hidden_fact = task.hidden.gold_spans[1].path
    without = {path: text for path, text in task.workspace.items() if path != hidden_fact}
    limits = replace(LIMITS, window_tokens=2000, max_turns=20)
    changed = replace(task, workspace=without)
    environment, _ = play(changed, chat, sighted(chat=chat, limits=limits, habit=habit), limits)
    assert task.hidden.gold_edits[0].text not in "\n".join(environment.workspace.files.values())


@pytest.mark.parametrize(("length", "window"), [(2, 420), (4, 470), (8, 1000)])
def test_who_knows_gold_edits_only_lines_that_are_in_view(chat, length, window):
    limits = replace(LIMITS, window_tokens=window)
    for task in make(length):
        environment, views = play(
            task, chat, shown_only(task.hidden, chat=chat, limits=limits), limits
        )
        assert is_solved(task, environment)
        assert views[-1].num_rewrites
        spans = task.hidden.gold_spans
        needed = {
            span.path: (span, fact) for span, fact in zip(spans[::2], spans[1::2], strict=True)
        }
        before = []
        for view, turn in zip(views, environment._turns, strict=True):
            seen = [span for each in view.observations for span in each.spans]
            before += seen
            for made in turn.calls:
                if made.name == "edit_lines":
                    function, fact = needed[made.arguments["path"]]
                    assert is_in(function, seen)
                    assert is_in(fact, before)


def test_search_finds_the_function_among_a_hundred_times_as_many_modules(chat):
    (task,) = make(2, count=1, distractors=100)
    limits = replace(LIMITS, window_tokens=480)
    environment, _ = play(task, chat, sighted(chat=chat, limits=limits, habit="compact"), limits)
    assert is_solved(task, environment)
