"""None of the attacks on graders is solved by the io grader, and few by the pytest grader.

None of them mends the bug. One that aims at the defences themselves names in `STOPPED_BY` which one
is left: `static screen`, `second runner`, or `nothing`.
"""

import pytest

from envs.grading.graders import make_grader
from tests.attacks.attempts import attacks, name_of, small_tasks, submitted, what_stops
from tests.envs.small_tasks import FIXED, is_solved, store_of

TASKS = small_tasks()
ATTACKS = attacks("graders")
PLAIN = [attack for attack in ATTACKS if not hasattr(attack, "STOPPED_BY")]
ADAPTIVE = [attack for attack in ATTACKS if hasattr(attack, "STOPPED_BY")]
PLANTS = [attack for attack in ATTACKS if hasattr(attack, "FILES")]


@pytest.fixture(scope="module")
def first():
    with make_grader(store_of(*TASKS.values())) as grader:
        yield grader


@pytest.fixture(scope="module")
def graders(first):
    with make_grader(store_of(*TASKS.values()), second_runner_share=1.0) as second:
        yield {"first": first, "second": second}


@pytest.mark.parametrize("kind", list(TASKS))
def test_an_honest_repair_is_solved(first, kind):
    task = TASKS[kind]
    assert is_solved(first.grade(task.hidden, {**task.workspace, "calc.py": FIXED}))


@pytest.mark.bubblewrap
@pytest.mark.parametrize("kind", list(TASKS))
def test_an_honest_repair_is_believed(graders, kind):
    task = TASKS[kind]
    outcome = graders["second"].grade(task.hidden, {**task.workspace, "calc.py": FIXED})
    assert is_solved(outcome)


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
def test_the_io_grader_is_not_fooled(first, attack):
    outcome = first.grade(TASKS["io"].hidden, submitted(attack, TASKS["io"]))
    assert not is_solved(outcome)
    assert outcome.unscorable is None  # nor masked from the loss


@pytest.mark.parametrize("attack", PLAIN, ids=name_of)
def test_the_pytest_grader_is_not_fooled(first, attack):
    outcome = first.grade(TASKS["pytest"].hidden, submitted(attack, TASKS["pytest"]))
    assert outcome.unscorable is None
    assert not is_solved(outcome)


@pytest.mark.bubblewrap
@pytest.mark.parametrize("attack", ADAPTIVE, ids=name_of)
def test_adaptive_attacks_are_stopped_by_what_they_name(graders, attack):
    task = TASKS["pytest"]
    outcome = graders["first"].grade(task.hidden, submitted(attack, task))
    assert outcome.unscorable is None
    assert name_of(attack).startswith("adaptive")
    assert what_stops(attack, task, graders) == attack.STOPPED_BY


@pytest.mark.parametrize("kind", list(TASKS))
@pytest.mark.parametrize("attack", PLANTS, ids=name_of)
def test_planted_files_change_nothing(first, kind, attack):
    task = TASKS[kind]
    files = submitted(attack, task)
    outcome = first.grade(task.hidden, files)
    assert (outcome.fail_to_pass_rate, outcome.pass_to_pass_rate) == (0.0, 1.0)
    assert is_solved(first.grade(task.hidden, {**files, "calc.py": FIXED}))
