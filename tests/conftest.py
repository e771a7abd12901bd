"""Hypothesis has no deadline, because a busy machine is not a broken law; what may be skipped."""

import functools
import os
import signal
import subprocess

import pytest
from hypothesis import HealthCheck, settings

from envs.grading.bwrap_runner import REMEDY, bubblewrap
from envs.sandbox.levels import LAYER_FACTS

# Of torch's threads, here and in processes that tests start: one that waits for another sleeps. By
# default it spins, and beside other work takes the core from the one it waits for: two to three
# times slower (tests/train/rl/test_grpo_trainer.py on two cores beside about fifteen busy
# processes).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # as every command does for itself
# A shell starts what runs behind it with Ctrl-C ignored, and what a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile(
    "tightrope", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("laws", settings.get_profile("tightrope"), max_examples=2000)
settings.load_profile("tightrope")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs bubblewrap where it does not work: from here, hence in one line of `-ra`."""
    if item.get_closest_marker("bubblewrap") and bubblewrap().failure:
        pytest.skip(f"no bubblewrap: {bubblewrap().failure}. Remedy: {REMEDY}")
    if item.get_closest_marker("mounts") and mounts_failure():
        pytest.skip(f"no mounts: {mounts_failure()}. Remedy: {LAYER_FACTS['namespaces'].remedy}")


@functools.cache
def mounts_failure() -> str:
    """Return why nothing can be mounted in namespaces of one's own here, '' if it can."""
    line = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(line, capture_output=True, text=True, check=False).stderr.strip()
