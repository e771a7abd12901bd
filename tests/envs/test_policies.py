"""Where the scripted yardsticks look for a bug."""

import pytest

from envs.policies import _sites
from envs.records import Edit

TEXT = "def first(a):\n    b = a\n\n\ndef second(a):\n    return a\n"


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [(2, 2, "first"), (3, 2, "first"), (6, 6, "second"), (7, 6, "second"), (4, 4, "")],
    ids=["in it", "behind its last line", "in the second", "behind the file", "between"],
)
def test_the_function_around_an_edit_is_found(start: int, end: int, name: str) -> None:
    edit = Edit(path="m.py", start=start, end=end, text="    return b\n")
    (site,) = _sites([edit], {"m.py": TEXT}, whole_file=False)
    assert site.function == name
