"""Hypothesis has no deadline, because a busy machine is not a broken law; what may be skipped."""

import pytest
from hypothesis import HealthCheck, settings

from envs.second_runner import REMEDY, bubblewrap_failure

settings.register_profile(
    "tightrope", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tightrope")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs bubblewrap where it does not work: from here, hence in one line of `-ra`."""
    if item.get_closest_marker("bubblewrap") and bubblewrap_failure():
        pytest.skip(f"no bubblewrap: {bubblewrap_failure()}. Remedy: {REMEDY}")
