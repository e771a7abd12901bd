"""No attack is solved by the io grader, nor by the pytest grader where it asks recorded calls.

None of them mends the bug. Without recorded calls the pytest grader is not fooled either, except by
attacks that are made against its own defences (`adaptive_...`); how many is in the table that
benchmarks/attacks.py prints. One that gets past recorded calls says why in `FOOLS`.
"""

from dataclasses import replace

import pytest

from tests.attacks.attempts import attacks, is_adaptive, name_of
from tests.attacks.defences import make_pytest_task, open_defences, submitted
from tests.attacks.suites import SUITES
from tests.envs.small_tasks import FIXED, is_solved

ATTACKS = attacks("graders")
PLAIN = [attack for attack in ATTACKS if not is_adaptive(name_of(attack))]
PLANTS = [attack for attack in ATTACKS if hasattr(attack, "FILES")]
# Each does again what another suite's do; of those that nothing but the second runner stops.
DOUBTED = ["adaptive_hidden_equal", "adaptive_hidden_reports", "adaptive_hidden_reporter"]
# Each has tests pass that are the suite's by their place, name or text.
NO_PAIRS = ["adaptive_reports_spare_canaries", "adaptive_spares_pairs"]
# Each forges what the second runner reads, in the suite as it is or in the copy as well.
FORGERS = ["adaptive_forged_junit", "adaptive_dies_in_copy"]


@pytest.fixture(scope="module")
def defences():
    with open_defences() as defences:
        yield defences


def without_calls(task):
    return replace(task, hidden=task.hidden.model_copy(update={"calls_sha": "", "calls": ()}))


@pytest.mark.parametrize("name", SUITES)
def test_an_honest_repair_is_solved(defences, name):
    class Honest:
        SUITE = name

    task = defences.task(Honest)
    outcome = defences.grade(task, {**task.workspace, "calc.py": SUITES[name].fixed})
    assert is_solved(outcome)
    assert outcome.recorded_calls == ""
    assert not is_solved(defences.grade(task, task.workspace))


@pytest.mark.bubblewrap
def test_an_honest_repair_is_believed(defences):
    task = make_pytest_task(SUITES["plain"])
    outcome = defences.grade(task, {**task.workspace, "calc.py": FIXED}, share=1.0)
    assert is_solved(outcome)


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
def test_the_io_grader_is_not_fooled(defences, attack):
    outcome = defences.grade_io(attack)
    assert not is_solved(outcome)
    assert outcome.unscorable is None  # nor masked from the loss


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
def test_the_pytest_grader_with_recorded_calls_is_not_fooled(defences, attack):
    task = defences.task(attack)
    outcome = defences.grade(task, submitted(attack, task))
    assert outcome.unscorable is None
    assert is_solved(outcome) == hasattr(attack, "FOOLS")
    assert is_adaptive(name_of(attack)) or not hasattr(attack, "FOOLS")


@pytest.mark.parametrize("attack", PLAIN, ids=name_of)
def test_the_pytest_grader_alone_is_not_fooled(defences, attack):
    task = without_calls(defences.task(attack))
    outcome = defences.grade(task, submitted(attack, task))
    assert outcome.unscorable is None
    assert not is_solved(outcome)


@pytest.mark.parametrize("name", NO_PAIRS)
def test_whoever_forges_the_suites_own_tests_forges_canaries_too(defences, name):
    (attack,) = [each for each in ATTACKS if name_of(each) == name]
    assert not defences.find_suite(attack)


@pytest.mark.bubblewrap
@pytest.mark.parametrize("name", DOUBTED)
def test_the_second_runner_is_not_fooled_by_what_forges_or_equals_everything(defences, name):
    (attack,) = [each for each in ATTACKS if name_of(each) == name]
    task = without_calls(defences.task(attack))
    assert not is_solved(defences.grade(task, submitted(attack, task), share=1.0))


@pytest.mark.bubblewrap
@pytest.mark.parametrize("name", FORGERS)
def test_the_second_runner_is_not_fooled_by_a_report_of_the_attackers_own(defences, name):
    (attack,) = [each for each in ATTACKS if name_of(each) == name]
    assert not defences.find_second(attack)


@pytest.mark.parametrize("attack", PLANTS, ids=name_of)
def test_planted_files_change_nothing(defences, attack):
    task = defences.task(attack)
    files = submitted(attack, task)
    outcome = defences.grade(task, files)
    assert (outcome.fail_to_pass_rate, outcome.pass_to_pass_rate) == (0.0, 1.0)
    assert is_solved(defences.grade(task, {**files, "calc.py": FIXED}))
