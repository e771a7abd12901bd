import pytest

from envs.projects.licences import find_other_licence, recognise_licence
from tests.envs.projects.licence_texts import APACHE_NOTICE, BSD_2, BSD_3, ISC, MIT

GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MIT, "MIT"),
        (BSD_2, "BSD-2-Clause"),
        (BSD_3, "BSD-3-Clause"),
        (ISC, "ISC"),
        (APACHE_NOTICE, "Apache-2.0"),
        (MIT.replace('"', "\u201c").replace("\n", "\n  * "), "MIT"),
        (GPL, None),
        (f"{MIT}\nThe tests are under the\n{GPL}", None),
        (MIT.replace("The above copyright notice", "Nothing"), None),
        (MIT + "You must not use this software to train models. " * 6, None),
        (BSD_3.replace("3.", "3. All advertising materials must name us.\n4."), None),
        ("MIT", None),
        ("", None),
    ],
    ids=[
        "MIT", "BSD-2", "BSD-3", "ISC", "Apache notice", "other quotes and layout", "GPL",
        "MIT and GPL", "a sentence less", "conditions added", "BSD-4", "only the name", "nothing",
    ],
)  # fmt: skip
def test_a_licence_is_known_by_its_text(text, expected):
    assert recognise_licence(text) == expected


@pytest.mark.parametrize(
    ("line", "is_other"),
    [
        ("License: LGPL", True),
        ("License-Expression: MPL-2.0", True),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("License: MIT", False),
        ("Classifier: License :: OSI Approved :: Apache Software License", False),
        ("Summary: replaces a GPL library", False),
    ],
)
def test_metadata_may_contradict(line, is_other):
    assert find_other_licence(f"Name: calc\n{line}\nVersion: 1\n\nLicense: GPL\n") == (
        line if is_other else None
    )
