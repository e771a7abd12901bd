import pytest

from envs.projects.baseline import measure_baseline
from envs.projects.verdict_cache import DECIDING
from envs.tasks.code_key import CHILD, code_key

TREE = {
    "pkg/__init__.py": '"""Rooms."""\n',
    "pkg/decide.py": "import json\nfrom pkg.room import used\nfrom pkg import (\n    other,\n)\n",
    "pkg/other.py": "def late():\n    import pkg.late\n",
    "pkg/late.py": "LATE = 1\n",
    "pkg/room/__init__.py": "",
    "pkg/room/used.py": "from pkg.room.deep import VALUE\n",
    "pkg/room/deep.py": "from pkg import decide\nVALUE = 1\n",
    "pkg/room/unrelated.py": "import pkg.decide\n",
}


def key_of(folder, **changes):
    """Return the key of `pkg.decide` in a tree in which a line is added to some files."""
    for path, text in TREE.items():
        name = path.removesuffix(".py").replace("/", "_")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text + changes.get(name, ""), "utf-8")
    code_key.cache_clear()
    return code_key("pkg.decide", root=folder)


@pytest.mark.parametrize(
    ("module", "keeps"),
    [
        ("pkg_decide", False),
        ("pkg_other", False),
        ("pkg_late", False),
        ("pkg___init__", False),
        ("pkg_room_used", False),
        ("pkg_room_deep", False),
        ("pkg_room_unrelated", True),
    ],
)
def test_a_key_changes_with_the_modules_that_are_imported_and_no_others(tmp_path, module, keeps):
    before = key_of(tmp_path)
    assert key_of(tmp_path) == before
    assert (key_of(tmp_path, **{module: "MORE = 1\n"}) == before) == keeps


@pytest.mark.parametrize(
    ("deciding", "user"),
    [(DECIDING, "envs.sources.build"), (measure_baseline.__module__, "envs.tools")],
)
def test_what_runs_in_the_sandbox_decides_too_and_what_only_uses_the_result_does_not(
    monkeypatch, deciding, user
):
    from envs.tasks import code_key as module

    named = {}
    monkeypatch.setattr(module, "hash_files", named.update)
    code_key.cache_clear()
    code_key(deciding, CHILD)
    code_key.cache_clear()
    assert named.keys() > {deciding, CHILD, "envs.sandbox.child_runs", "envs.grading.test_suite"}
    assert not named.keys() & {"envs.projects.build_projects", user}
