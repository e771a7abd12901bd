from envs.projects.source_files import scan_folder
from tightrope_cli.tasks.first_look import describe_folder

FILES = {
    "pyproject.toml": "[tool.pytest]\npython_files = ['check_*.py']\ntestpaths = ['tests']",
    "src/pkg/core.py": "x = 1",
    "src/pkg/check_all.py": "x = 1",
    "src/pkg/_vendor/six.py": "x = 1",
    "src/pkg/fast.c": "int x;",
    "tests/check_core.py": "def test(): ...",
    "tests/check_more.py": "def test(): ...",
    "tests/data.txt": "x",
    "broken.py": "# coding: latin-2-none",
    "build/lib/pkg/core.py": "x = 1",
    ".git/config": "x",
    "v/pyvenv.cfg": "x",
    "v/lib/six.py": "x = 1",
    "pkg.egg-info/PKG-INFO": "x",
    "big.bin": "x" * (8 * 2**20 + 1),
}


def test_three_lines_say_what_a_folder_is_taken_for_before_anything_runs(tmp_path):
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "tests")
    lines = describe_folder("mine", scan_folder(tmp_path), exclude=["tests/check_more.py"])
    read, tests, mutated = lines
    assert read.startswith("read     mine: 9 files (5 of Python), 1 KiB; skipped: ")
    assert "no Python for its encoding broken.py" in read
    for kind in (
        "hidden .git",
        "built build",
        "links link",
        "made by tools pkg.egg-info",
        "virtual environment v",
        "above 8 MiB big.bin",
    ):
        assert kind in read
    assert tests.startswith("tests    1 file by name (check_*.py below tests)")
    assert tests.endswith("; left out: by --exclude tests/check_more.py")
    assert mutated == (
        "mutated  of the 2 other Python files those in which tests execute enough; not: "
        "vendored src/pkg/_vendor/six.py; compiled src/pkg/fast.c"
    )
