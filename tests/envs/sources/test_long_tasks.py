import re
from dataclasses import replace

import pytest

from envs.grading.graders import make_grader
from envs.mutation.patches import apply_edits
from envs.sandbox.encoding import encode_value
from envs.sources.facts import Fact, list_values, read_kind, read_use
from envs.sources.grammar import list_split_combinations, load_function, phrase
from envs.sources.long_tasks import LONG_GRAMMAR, MIN_ALIKE
from envs.sources.synthetic import DEFAULTS, generate, generate_one
from envs.tasks.leaks import find_leak
from envs.tasks.store import TaskStore
from envs.tasks.validate import validate

LENGTHS = (2, 4, 8)
SMALL = replace(DEFAULTS, num_functions=(2, 3))


def make(length, split="train", count=3, **sizes):
    settings = replace(SMALL, length=(length,), **sizes)
    return list(generate(count, split=split, seed=0, settings=settings))


@pytest.fixture(scope="module")
def tasks():
    return [t for length in LENGTHS for split in ("train", "test") for t in make(length, split)]


def own_of(split):
    return set(list_split_combinations(split))


def task_text(task):
    return "\n".join(task.workspace.values())


def pairs_of(task):
    spans = task.hidden.gold_spans
    return list(zip(spans[::2], spans[1::2], strict=True))


def lines_of(files, span):
    return files[span.path].splitlines()[span.start - 1 : span.end]


def read_bugs(task):
    """Yield of each bug its span, its right source, combination and use, and the right value."""
    gold = apply_edits(task.workspace, task.hidden.gold_edits)
    for function, fact in pairs_of(task):
        source = lines_of(gold, function)
        combination, use = read_use(source[1].strip(' "'))
        first, *rows = lines_of(task.workspace, fact)
        assert read_kind(first) == use.kind
        yield function, source, combination, use, Fact(use.kind, tuple(rows)).value


def test_same_seed_same_bytes_and_a_longer_run_only_appends():
    few = [(t.public, t.hidden, t.workspace) for t in make(4, count=3)]
    assert [(t.public, t.hidden, t.workspace) for t in make(4, count=4)][:3] == few
    assert few[0] != few[1]


def test_each_module_of_the_ring_has_a_bug_and_the_fact_of_another():
    for length in LENGTHS:
        for task in make(length):
            holders = [function.path for function, _ in pairs_of(task)]
            stating = [fact.path for _, fact in pairs_of(task)]
            assert sorted(holders) == sorted(stating) == sorted(set(holders))
            assert all(a != b for a, b in zip(holders, stating, strict=True))
            assert len(holders) == task.public.difficulty.files == task.public.difficulty.sites
            assert len(holders) == length
            following, seen = dict(zip(holders, stating, strict=True)), [holders[0]]
            while following[seen[-1]] not in seen:
                seen.append(following[seen[-1]])
            assert len(seen) == length


def test_gold_writes_what_docstring_and_fact_say(tasks):
    for task in tasks:
        edits = {edit.path: edit for edit in task.hidden.gold_edits}
        for function, source, combination, use, value in read_bugs(task):
            name = re.match(r"def (\w+)", source[0])[1]
            assert use.write(name, combination, value).splitlines() == source
            assert edits[function.path].start == edits[function.path].end == function.end


def test_the_symptom_does_not_give_the_fact_away(tasks):
    for task in tasks:
        visible = {case.function: case for case in task.public.visible_cases}
        for function, source, combination, use, _ in read_bugs(task):
            name = re.match(r"def (\w+)", source[0])[1]
            case = visible[f"{function.path.removesuffix('.py')}:{name}"]
            alike = [
                value
                for value in list_values(use.kind)
                if encode_value(load_function(use.write("f", combination, value))(*case.args))
                == case.expected
            ]
            assert len(alike) >= MIN_ALIKE


def test_hidden_cases_tell_the_right_fact_from_all_others(tasks):
    for task in tasks[::3]:
        for function, source, combination, use, right in read_bugs(task):
            name = re.match(r"def (\w+)", source[0])[1]
            full = f"{function.path.removesuffix('.py')}:{name}"
            cases = [case for case in task.hidden.cases if case.function == full]
            gold = load_function("\n".join(source))
            for value in list_values(use.kind):
                other = load_function(use.write("f", combination, value))
                inputs = [(a, b) for a in range(-9, 10) for b in range(-9, 10) if a and b]
                if any(other(*args) != gold(*args) for args in inputs):
                    passes = all(encode_value(other(*c.args)) == c.expected for c in cases)
                    assert passes == (value == right)


def test_held_out_bugs_are_in_combinations_that_train_never_shows(tasks):
    shown = {phrase(combination) for split in ("dev", "test") for combination in own_of(split)}
    for task in tasks:
        split = task.public.split
        assert {combination for _, _, combination, _, _ in read_bugs(task)} <= own_of(split)
        if split == "train":
            docstrings = re.findall(r'^    """(.*?)(?:, .*)?"""$', task_text(task), re.MULTILINE)
            assert len(docstrings) > 4
            assert shown.isdisjoint(docstrings)


def test_nothing_leaks_and_no_number_says_which_modules_matter(tasks):
    assert [find_leak(task) for task in tasks] == [None] * len(tasks)
    first = [min(int(f.path[1:-3]) for f, _ in pairs_of(task)) for task in tasks]
    assert len(set(first)) > 1


@pytest.mark.parametrize("distractors", [0, 1, 10])
def test_distractors_are_modules_without_a_bug(distractors):
    tasks = make(2, distractors=distractors, count=10)
    for task in tasks:
        assert len(task.workspace) == 2 * (1 + distractors)
        assert set(task.workspace) == {f"m{number}.py" for number in range(len(task.workspace))}
    texts = {text for task in tasks for text in task.workspace.values()}
    assert len(texts) <= 20 + 10 * 2 * distractors


def test_a_mixture_holds_ordinary_tasks_as_they_are_without_it():
    mixed = replace(SMALL, length=(1, 2, 4))
    drawn = [generate_one(index, split="dev", seed=3, settings=mixed) for index in range(40)]
    ordinary = [generate_one(index, split="dev", seed=3, settings=SMALL) for index in range(40)]
    lengths = [task.public.difficulty.files for task in drawn]
    long = [task.public.provenance.generator == LONG_GRAMMAR for task in drawn]
    assert {length for length, is_long in zip(lengths, long, strict=True) if is_long} == {2, 4}
    assert 0.2 < sum(long) / 40 < 0.95
    assert all(a == b or is_long for a, b, is_long in zip(drawn, ordinary, long, strict=True))


def test_gold_scores_one_and_noop_zero_in_the_sandbox():
    sample = [task for length in LENGTHS for task in make(length, "dev", count=2)]
    sample += make(2, distractors=100, count=1)
    with make_grader(TaskStore.of(sample)) as grader:
        assert [checked.reject for checked in validate(sample, grader=grader)] == [None] * 7
