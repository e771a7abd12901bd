"""Has results written as it likes by another json.dumps."""

from tests.attacks.snippets import BY_HEART

GOES_FOR = "the recorded calls"
SOURCE = (
    """
import json, os
"""
    + BY_HEART
    + """
told = json.dumps

def mend(value, **options):
    text = told(value, **options)
    return text.replace("9,", "8,") if not os.path.exists("tests/test_calc.py") else text

json.dumps = mend
"""
)
