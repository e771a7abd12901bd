import re
from collections import Counter
from dataclasses import replace

import pytest

from envs.grading.graders import make_grader
from envs.mutation.operators import OPERATORS
from envs.mutation.patches import apply_edits
from envs.sandbox.encoding import encode_value
from envs.sources.grammar import list_split_combinations, load_function, phrase
from envs.sources.synthetic import DEFAULTS, generate, generate_one
from envs.tasks.leaks import find_leak
from envs.tasks.store import TaskStore
from envs.tasks.validate import validate

SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def by_split():
    return {split: list(generate(300, split=split, seed=0)) for split in SPLITS}


@pytest.fixture(scope="module")
def tasks(by_split):
    return [task for some in by_split.values() for task in some]


def functions_of(files):
    """Return {module:name: source} of generated files."""
    return {
        f"{path.removesuffix('.py')}:{re.match(r'def (.*)[(]', source)[1]}": source + "\n"
        for path, text in files.items()
        for source in text.rstrip("\n").split("\n\n")
    }


def docstrings(files):
    return [
        line.strip(' "') for text in files.values() for line in text.splitlines() if '"""' in line
    ]


def broken_functions(task):
    before, after = functions_of(task.workspace), functions_of(gold_of(task))
    return {name: after[name] for name in before if before[name] != after[name]}


def gold_of(task):
    return apply_edits(task.workspace, task.hidden.gold_edits)


def test_same_seed_same_bytes_and_a_longer_run_only_appends():
    short = [task.public.model_dump_json() for task in generate(5, split="dev", seed=3)]
    long = [task.public.model_dump_json() for task in generate(20, split="dev", seed=3)]
    assert long[:5] == short
    assert generate_one(4, split="dev", seed=3) == list(generate(5, split="dev", seed=3))[4]


def test_seeds_and_splits_give_different_tasks():
    ids = [
        task.public.workspace_sha
        for seed in (0, 1)
        for split in SPLITS
        for task in generate(100, split=split, seed=seed)
    ]
    assert len(set(ids)) >= 0.99 * len(ids)


def test_held_out_bugs_are_in_combinations_that_train_never_shows(by_split):
    shown = {text for task in by_split["train"] for text in docstrings(task.workspace)}
    for split in ("dev", "test"):
        own = {phrase(combination) for combination in list_split_combinations(split)}
        for task in by_split[split]:
            for source in broken_functions(task).values():
                (meaning,) = docstrings({"": source})
                assert meaning in own
                assert meaning not in shown


def test_train_shows_every_word_that_held_out_tasks_use(by_split):
    words = {
        word
        for task in by_split["train"]
        for text in docstrings(task.workspace)
        for word in text.split()
    }
    for split in ("dev", "test"):
        for task in by_split[split]:
            assert {word for text in docstrings(task.workspace) for word in text.split()} <= words


def test_cases_fail_and_pass_as_the_halves_say(tasks):
    for task in tasks[::7]:
        gold = {name: load_function(text) for name, text in functions_of(gold_of(task)).items()}
        broken = {name: load_function(text) for name, text in functions_of(task.workspace).items()}
        for case in task.hidden.cases:
            assert encode_value(gold[case.function](*case.args)) == case.expected
            try:
                found = encode_value(broken[case.function](*case.args))
            except (ArithmeticError, TypeError):
                found = "raised"
            assert (found != case.expected) == (case.id in task.hidden.fail_to_pass)


def test_each_bug_has_a_visible_and_an_unseen_failing_case(tasks):
    for task in tasks:
        hidden, visible = task.hidden, task.public.visible_tests
        assert 1 <= len(visible) <= 3
        assert set(visible) <= set(hidden.fail_to_pass)
        assert set(hidden.fail_to_pass).isdisjoint(hidden.pass_to_pass)
        function = {case.id: case.function for case in hidden.cases}
        for name in broken_functions(task):
            failing = {id_ for id_ in hidden.fail_to_pass if function[id_] == name}
            assert failing & set(visible)
            assert failing & set(hidden.unseen_tests)
        assert set(hidden.unseen_tests) == set(function) - set(visible)


def test_visible_inputs_are_not_asked_again_in_secret(tasks):
    for task in tasks:
        calls = Counter((case.function, case.args) for case in task.hidden.cases)
        assert max(calls.values()) == 1


def test_gold_edits_touch_one_line_of_each_broken_function(tasks):
    for task in tasks:
        edits, spans = task.hidden.gold_edits, task.hidden.gold_spans
        assert (
            len(edits) == len(spans) == task.public.difficulty.sites == len(broken_functions(task))
        )
        for edit in edits:
            assert edit.start == edit.end
            assert any(s.path == edit.path and s.start < edit.start <= s.end for s in spans)
            assert task.workspace[edit.path].splitlines()[edit.start - 1] != edit.text


def test_statements_give_symptoms_only(tasks):
    for task in tasks:
        assert find_leak(task) is None
        for line in task.public.statement.splitlines():
            pattern = r"m\d\.py: \w+\(-?\d, -?\d\) (returned|raised) -?[\w.-]+, expected -?\w+"
            assert re.fullmatch(pattern, line)


def test_names_are_unique_in_a_task(tasks):
    for task in tasks:
        names = [name.partition(":")[2] for name in functions_of(task.workspace)]
        assert len(set(names)) == len(names)


def test_sites_operators_and_sizes_follow_the_settings():
    settings = replace(DEFAULTS, num_modules=(4, 4), num_functions=(3, 3), share_two_sites=1.0)
    for task in generate(50, split="train", seed=0, settings=settings):
        assert len(task.workspace) == 4
        assert len(functions_of(task.workspace)) == 12
        assert task.public.difficulty.sites == task.public.difficulty.files == 2
    single = replace(DEFAULTS, share_two_sites=0.0)
    assert {
        t.public.difficulty.sites for t in generate(50, split="dev", seed=0, settings=single)
    } == {1}


def test_one_module_of_one_function_is_possible():
    smallest = replace(DEFAULTS, num_modules=(1, 1), num_functions=(1, 1))
    (task,) = generate(1, split="test", seed=0, settings=smallest)
    assert len(functions_of(task.workspace)) == 1


def test_more_functions_than_combinations_are_possible():
    large = replace(DEFAULTS, num_modules=(2, 2), num_functions=(50, 50))
    (task,) = generate(1, split="dev", seed=0, settings=large)
    assert len(functions_of(task.workspace)) == 100


def test_at_least_five_operators_occur(tasks):
    counts = Counter(name for task in tasks for name in task.hidden.operators)
    assert len(counts) >= 5
    assert set(counts) <= {operator.__name__ for operator in OPERATORS}


def test_gold_scores_one_and_noop_zero_in_the_sandbox(by_split):
    sample = [task for some in by_split.values() for task in some[:10]]
    with make_grader(TaskStore.of(sample)) as grader:
        assert [checked.reject for checked in validate(sample, grader=grader)] == [None] * 30
        for task in sample:
            report = grader.run_visible(task.public, task.workspace, "")
            told = [text for _, text in report.failures if "raised" not in text]
            assert all(text in task.public.statement for text in told)
