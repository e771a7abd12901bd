import pytest

from envs.errors import UserError
from envs.sources.synthetic import generate
from envs.tasks.store import Manifest, write_built
from tightrope_cli.main import run_verb
from tightrope_cli.tasks import build_path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--path", "mine", "--workers", "0"], "--workers is too small"),
        (["--path=mine", "--suite-seconds=-3"], "--suite-seconds is too small"),
        (["--source", "pth", "--path", "mine"], "invalid choice: 'pth'"),
        (["--path", "nowhere"], "no such folder"),
    ],
    ids=["workers", "seconds", "source", "path alone"],
)
def test_a_line_about_a_folder_says_what_is_wrong_with_it(line, said):
    with pytest.raises(UserError, match=said):
        run_verb(["tasks", "build", *line])


def test_ctrl_c_before_any_bug_was_tried_does_not_say_that_bugs_are_kept(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    (tmp_path / "core.py").write_text("x = 1", "utf-8")
    monkeypatch.setattr(build_path, "open_local", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        run_verb(["tasks", "build", "--path", str(tmp_path), "--out", str(tmp_path.parent / "set")])
    assert not hasattr(caught.value, "__notes__")


def test_shown_are_all_files_first_and_then_the_visible_tests(tmp_path, capsys):
    tasks = list(generate(1, split="train", seed=0))
    write_built(tmp_path / "set", tasks=tasks, manifest=Manifest(source="s", seed=0, licence="x"))
    assert run_verb(["tasks", "show", str(tmp_path / "set" / tasks[0].public.id)]) == 0
    listed, _, texts = capsys.readouterr().out.partition("\n--- ")
    assert texts and " lines" not in texts
    assert "(1 lines" not in listed
