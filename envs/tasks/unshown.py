"""The lint of what a task asks for: no hidden test needs a word that nothing shows.

Words are names, numbers and the words in strings: an attribute, a key or a message that a bug took
away and that hidden failing tests ask for, while neither the statement nor a file of the workspace
has it. What has to be guessed from behaviour is another matter: `envs/mutation/near_misses.py`.

Not covered: a word that stands somewhere else, for another purpose.
"""

import re
from collections.abc import Collection, Iterable

from envs.tasks.store import BuiltTask
from envs.tasks.visible_tests import parse_test_id

UNSHOWN = "hidden tests need what nothing shows"
_WORD = re.compile(r"\b(?:[^\W\d]\w{2,}|\d+)\b")


def needs_unshown_word(task: BuiltTask) -> bool:
    """Tell whether the repair puts a word back that hidden failing tests alone have."""
    hidden = task.hidden
    put_back = {word for edit in hidden.gold_edits for word in _WORD.findall(edit.text)}
    unknown = put_back - _find_words(put_back, (task.public.statement, *task.workspace.values()))
    if not unknown:
        return False
    paths = {parse_test_id(test)[0] for test in hidden.fail_to_pass}
    return bool(_find_words(unknown, (task.tests.get(path, "") for path in paths)))


def _find_words(wanted: Collection[str], texts: Iterable[str]) -> set[str]:
    """Return those of some words that a text has."""
    found: set[str] = set()
    for text in texts:
        left = [word for word in wanted if word not in found]
        found |= {word for word in left if re.search(rf"\b{re.escape(word)}\b", text)}
    return found
