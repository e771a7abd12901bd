"""Hypothesis here: no deadline, because a busy machine is not a broken law."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "tightrope", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tightrope")
