import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from envs.errors import InfrastructureError
from envs.tasks.parallel import MAX_FAILURES, NUM_TRIES, run_in_order


def fail(item):
    raise InfrastructureError(f"no fork for {item}")


def run(work, items, *, ahead=lambda: 4, workers=3):
    with ThreadPoolExecutor(workers) as pool:
        on_failure = lambda item, error: f"{item}: {error}"  # noqa: E731
        yield from run_in_order(work, items, on_failure=on_failure, pool=pool, ahead=ahead)


def test_results_come_in_order_though_the_first_takes_longest():
    second_is_done = threading.Event()

    def work(item):
        if item == 0:
            assert second_is_done.wait(10)
        else:
            second_is_done.set()
        return item * item

    assert list(run(work, range(8))) == [item * item for item in range(8)]


def test_no_more_are_begun_than_there_is_room_for():
    taken = []
    room = [3]
    items = (taken.append(n) or n for n in range(9))
    results = run(lambda item: item, items, ahead=lambda: room[0])
    assert next(results) == 0
    assert taken == [0, 1, 2]
    assert next(results) == 1
    assert taken == [0, 1, 2, 3]
    room[0] = 1
    assert next(results) == 2
    assert taken == [0, 1, 2, 3]
    room[0] = 4
    assert next(results) == 3
    assert taken == [0, 1, 2, 3, 4, 5, 6]
    results.close()


def test_what_the_sandbox_spoiled_is_tried_again_then_given_up():
    tries = []

    def work(item):
        tries.append(item)
        return fail(item) if item == "a" or tries.count(item) < NUM_TRIES else item

    assert list(run(work, "ab", workers=1)) == ["a: no fork for a", "b"]
    assert (tries.count("a"), tries.count("b")) == (NUM_TRIES, NUM_TRIES)


def test_many_failures_in_a_row_end_it_and_one_success_between_them_does_not():
    mixed = ["bad"] * (MAX_FAILURES - 1) + ["good"] + ["bad"] * (MAX_FAILURES - 1)
    assert len(list(run(lambda item: fail(item) if item == "bad" else item, mixed))) == len(mixed)
    with pytest.raises(InfrastructureError, match=rf"{MAX_FAILURES} times in a row.*no fork"):
        list(run(fail, range(MAX_FAILURES)))


def test_another_error_ends_it_at_once():
    with pytest.raises(ZeroDivisionError):
        list(run(lambda item: 1 // item, [1, 0, 1]))
