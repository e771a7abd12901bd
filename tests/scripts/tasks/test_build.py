import json
from dataclasses import replace
from pathlib import Path

import pytest

from envs.errors import UserError
from envs.mutation.patches import make_patch
from envs.sources.synthetic import generate
from envs.tasks.store import Manifest, TaskStore, write_built
from tests.envs.projects.small_project import CALC, FILES
from tightrope_cli.main import run_verb

ROOT = Path(__file__).resolve().parents[3]
MANIFEST = Manifest(source="synthetic", seed=0, licence="Apache-2.0")


def main(line):
    return run_verb(["tasks", *line])


@pytest.fixture
def arguments(tmp_path):
    sizes = {"tasks.train": 4, "tasks.dev": 2, "tasks.test": 2}
    fits = {"evaluate.num_tasks": 2, "tasks.dir": tmp_path / "set"}
    overrides = [f"--{name}={value}" for name, value in (sizes | fits).items()]
    return ["--config", str(ROOT / "configs" / "smoke.yaml"), *overrides]


def test_build_then_look(arguments, tmp_path, capsys):
    assert main(["build", *arguments, "--dry-run"]) == 0
    assert "would build 4 train, 2 dev, 2 test tasks" in capsys.readouterr().out
    assert not (tmp_path / "set").exists()

    assert main(["build", *arguments]) == 0
    written = capsys.readouterr()
    assert "4 train, 2 dev, 2 test (built)" in written.out
    assert "checking gold and no-op: 8/8" in written.err

    before = (tmp_path / "set" / "manifest.json").stat().st_mtime_ns
    assert main(["build", *arguments]) == 0
    assert "already built" in capsys.readouterr().out
    assert (tmp_path / "set" / "manifest.json").stat().st_mtime_ns == before

    assert main(["stats", *arguments]) == 0
    assert "operators: " in capsys.readouterr().out
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "set.stats").iterdir()}
    assert set(drawn) == {"sites.png", "files.png", "lines.png", "failing_tests.png", "trivial.png"}
    assert all(data.startswith(b"\x89PNG") for data in drawn.values())

    assert main(["validate", str(tmp_path / "set")]) == 0
    assert "8 of 8 tasks pass" in capsys.readouterr().out

    name = (tmp_path / "set" / "train.jsonl").read_text("utf-8").partition('"id":"')[2][:14]
    assert main(["show", name, *arguments]) == 0
    public = capsys.readouterr().out
    assert name in public
    assert "+++ b/" not in public
    assert main(["show", name, *arguments, "--private"]) == 0
    assert "+++ b/" in capsys.readouterr().out
    with pytest.raises(UserError, match="no task has this id"):
        main(["show", "t_zzz", *arguments])

    with pytest.raises(UserError, match="another task set") as caught:
        main(["build", *arguments, "--tasks.seed=5"])
    assert "--clean" in caught.value.remedy


def test_tasks_may_come_from_a_function_of_the_users_own(arguments, capsys):
    own = ["--tasks.source", "tests.train.config.own_functions:one_function"]
    assert main(["build", *arguments, *own]) == 0
    written = capsys.readouterr()
    assert "4 train, 2 dev, 2 test (built)" in written.out
    assert "checking gold and no-op: 8/8" in written.err
    assert main(["stats", *arguments, *own]) == 0
    assert "editable: m0.py 8" in capsys.readouterr().out

    own = ["--tasks.source=tests.train.config.own_functions:always_train"]
    with pytest.raises(UserError, match="does not fit"):
        main(["build", *arguments, *own, "--clean"])


@pytest.mark.parametrize("action", ["stats", "show"])
def test_a_missing_set_names_the_command(arguments, action):
    with pytest.raises(UserError, match="no task set") as caught:
        main([action, *(["t_0"] if action == "show" else []), *arguments])
    assert "tightrope tasks build --config" in caught.value.remedy


def test_stats_show_what_a_run_has_solved(arguments, tmp_path, capsys):
    tasks = list(generate(3, split="train", seed=0))
    write_built(tmp_path / "set", tasks=tasks, manifest=MANIFEST)
    arguments = [*arguments, f"--run.dir={tmp_path / 'runs'}"]
    counts = {
        task.public.id: {"samples": 8, "solved": solved}
        for task, solved in zip(tasks, (0, 4, 8), strict=True)
    } | {"t_of_another_set": {"samples": 1, "solved": 1}}
    folder = tmp_path / "runs" / "smoke" / "grpo"
    folder.mkdir(parents=True)
    (folder / "solves.json").write_text(json.dumps(counts), "utf-8")
    assert main(["stats", *arguments, "--figures", str(tmp_path / "png")]) == 0
    said = capsys.readouterr().out
    assert "3 tasks, 1 never solved, 1 always" in said
    assert "pass@1: mean 0.50 of 3 tasks" in said
    assert "pass@8: mean 0.67 of 3 tasks" in said
    assert (tmp_path / "png" / "pass_at_1.png").is_file()


def test_validate_names_the_tasks_that_fail(tmp_path, capsys):
    good, bad, leaky = generate(3, split="train", seed=0)
    (edit, *more) = bad.hidden.gold_edits
    edits = (edit.model_copy(update={"text": "    return 'no repair'"}), *more)
    bad = replace(bad, hidden=bad.hidden.model_copy(update={"gold_edits": edits}))
    statement = f"{leaky.public.statement} by arith_swap"
    leaky = replace(leaky, public=leaky.public.model_copy(update={"statement": statement}))
    write_built(tmp_path / "set", tasks=[good, bad, leaky], manifest=MANIFEST)
    assert main(["validate", str(tmp_path / "set")]) == 1
    written = capsys.readouterr()
    assert written.out.splitlines() == [
        f"{bad.public.id}: gold does not score 1",
        f"{leaky.public.id}: leak: operator in the statement",
        f"{tmp_path / 'set'}: 1 of 3 tasks pass",
    ]
    assert "checking gold and no-op: 3/3" in written.err
    (tmp_path / "set" / "dev.jsonl").write_text("{}", "utf-8")
    with pytest.raises(UserError, match="damaged") as caught:
        main(["validate", str(tmp_path / "set")])
    assert "dev.jsonl" in str(caught.value)


def test_import_makes_a_set_that_validates(tmp_path, capsys):
    for path, text in FILES.items():
        (tmp_path / "repo" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / path).write_text(text, "utf-8")
    wrong = CALC.replace("min(max(value, low), high)", "value")
    good = {
        "instance_id": "good",
        "repo": "calc",
        "patch": make_patch({"calc/core.py": CALC}, {"calc/core.py": wrong}),
        "FAIL_TO_PASS": [f"tests/test_core.py::test_clamp{name}" for name in ("", "_to_a_point")],
        "PASS_TO_PASS": [f"tests/test_core.py::test_{name}evens" for name in ("", "no_")],
    }
    bad = good | {"instance_id": "bad", "patch": "none"}
    hinted = wrong.replace("return value\n", "return -value\n")
    hinted = make_patch({"calc/core.py": CALC}, {"calc/core.py": hinted})
    leaky = good | {"patch": hinted, "instance_id": "leaky"}
    leaky["problem_statement"] = "Write: return min(max(value, low), high)"
    (tmp_path / "x.json").write_text(json.dumps([good, bad, leaky]), "utf-8")
    arguments = ["import", str(tmp_path / "x.json"), "--repo", str(tmp_path / "repo")]
    arguments += ["--out", str(tmp_path / "set"), "--format", "swe-smith"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [
        "bad: the patch cannot be used (it is no unified diff)",
        "leaky: leak: gold line in the statement",
        f"{tmp_path / 'set'}: 1 train tasks of 3 instances",
    ]
    rejects = {"the patch cannot be used": 1, "leak: gold line in the statement": 1}
    assert TaskStore.open(tmp_path / "set").manifest.rejects == rejects
    assert main(["validate", str(tmp_path / "set")]) == 0
    with pytest.raises(UserError, match="there already"):
        main(arguments)
    (tmp_path / "x.json").write_text(json.dumps([bad]), "utf-8")
    assert main([*arguments, "--clean"]) == 1
    assert "1 of 1 tasks pass" in capsys.readouterr().out, "a set that was there stays"
