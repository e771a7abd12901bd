"""How many cases a law of whole episodes is tried on: few in the suite, 2,000 when asked for.

python -m pytest --hypothesis-profile laws tests/envs/context/test_laws.py
"""

from hypothesis import settings

_SUITE = settings.get_profile("tightrope").max_examples
CASES = 12 if settings.default.max_examples <= _SUITE else settings.default.max_examples
