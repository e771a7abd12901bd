"""`tightrope fork`: what it plays, how it goes on after a kill, and what it refuses to fork."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from envs.errors import UserError
from envs.sources.synthetic import generate
from envs.tasks.store import Manifest, write_built
from tests.train.small_run import CONFIG, add_policy, add_tokenizer, arguments, settings_in
from tightrope_cli import evaluate
from tightrope_cli.fork import main
from train.models.model import load_tokenizer, run_tokenizer
from train.stages.exit_codes import run_main
from train.stages.run_dir import stage_in

NAMES = ("sft", "grpo", "careful")
PINNED = (
    "--context.window_tokens=[420, 420]",
    "--reward.advantage=default",
    "--evaluate.num_tasks=2",
    "--context.max_turns=9",
    "--run.deterministic=true",
    "--rollouts.tool_workers=1",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was evaluated."""
    folder = tmp_path_factory.mktemp("fork")
    tasks = [task for split in ("train", "test") for task in generate(2, split=split, seed=0)]
    write_built(
        folder / "tasks", tasks=tasks, manifest=Manifest(source="synthetic", seed=0, licence="MIT")
    )
    settings = settings_in(folder, *PINNED)
    add_tokenizer(settings)
    add_policy(settings)
    load_tokenizer(run_tokenizer(settings)).save_pretrained(folder / "runs/smoke/sft/model")
    line = [f"--config={CONFIG}", *arguments(folder), *PINNED, "--policies", *NAMES, "sft-greedy"]
    assert run_main(evaluate.main, line) == 0
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The same run, for one test to change, in another place."""
    return Path(shutil.copytree(made / "runs/smoke", tmp_path / "moved"))


@pytest.fixture(scope="module")
def forked(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which a script's episodes were forked."""
    run = tmp_path_factory.mktemp("forked") / "run"
    shutil.copytree(made / "runs/smoke", run)
    fork(run, "--policies=careful")
    return run


@pytest.fixture
def done(forked: Path, tmp_path: Path) -> Path:
    """The same forks, for one test to change."""
    return Path(shutil.copytree(forked, tmp_path / "done"))


def fork(run: Path, *more: str, forks: int = 3) -> dict[str, Any]:
    line = [str(run), f"--forks={forks}", "--samples=1", *more]
    assert run_main(main, line) == 0
    found: dict[str, Any] = json.loads((run / "fork/summary.json").read_text())
    return found


def rows_in(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"fork/{name}.jsonl").read_text().split("\n")[:-1]]


def refuse(line: list[str], match: str) -> UserError:
    with pytest.raises(UserError, match=match) as caught:
        main(line)
    return caught.value


def test_a_killed_command_goes_on_and_more_forks_keep_those_there_are(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, path = (done / "fork/summary.json").read_bytes(), done / "fork/careful.jsonl"
    rows = rows_in(done, "careful")
    assert len(rows) == 3 and all(len(row["branches"]) == 2 for row in rows)
    text = path.read_text()
    path.write_text(text[: text.index("\n") + 40])  # a row, and half of the next
    (done / "fork/done").unlink()
    fork(done, "--policies=careful")
    assert (done / "fork/summary.json").read_bytes() == whole
    assert sorted(rows_in(done, "careful"), key=str) == sorted(rows, key=str)
    text = path.read_text()
    assert fork(done, "--policies=careful", forks=2)["policies"][0]["num_forks"] == 2
    assert path.read_text() == text, "nothing is played again"
    assert fork(done, "--policies=careful", forks=4)["policies"][0]["num_forks"] == 4
    assert rows_in(done, "careful")[:3] == [json.loads(line) for line in text.split("\n")[:-1]]
    assert stage_in(done, "fork").is_done() and stage_in(done, "fork").config.is_file()
    assert "value of rewriting now" in capsys.readouterr().out


def test_models_are_forked_by_default_and_rows_say_what_was_played(run: Path) -> None:
    found = fork(run, "--policies", "grpo", "careful", forks=1)
    by_name = {row["name"]: row for row in found["policies"]}
    assert list(by_name) == ["grpo", "careful"]
    assert [(each["first"], each["second"]) for each in found["comparisons"]] == [
        ("grpo", "careful")
    ]
    raw, scripted = by_name["grpo"], by_name["careful"]
    assert scripted["num_forks"] == 1 and scripted["num_possible"] >= 3
    assert raw["num_dropped"] + raw["num_forks"] == len(rows_in(run, "grpo"))
    arms = [branch["arm"] for row in rows_in(run, "grpo") for branch in row["branches"]]
    assert arms.count("none") == arms.count("rewrite") == len(rows_in(run, "grpo"))


def test_several_runs_are_put_together(done: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(done, tmp_path / "other"))
    line = ["--forks=3", "--samples=1", "--policies=careful"]
    assert run_main(main, [str(done), str(other), *line]) == 0
    pooled = json.loads((done / "fork/over_runs.json").read_text())
    assert pooled["runs"] == [str(done), str(other)]
    assert pooled["policies"][0]["num_seeds"] == 2
    assert pooled["policies"][0]["num_forks"] == 6


def test_what_cannot_be_forked_is_refused_with_a_remedy(run: Path, tmp_path: Path) -> None:
    assert "tightrope evaluate" in refuse([str(tmp_path / "none")], "is missing").remedy
    refuse([str(run), "--policies", "nobody"], "no episodes of this policy")
    assert "sft" in refuse([str(run), "--policies", "sft-greedy"], "no episodes of this").remedy
    done = run / "evaluate/done"
    done.rename(tmp_path / "done")
    assert "--resume" in refuse([str(run)], "is unfinished").remedy
    (tmp_path / "done").rename(done)
    (run / "evaluate/played.json").rename(tmp_path / "played.json")
    assert "--clean" in refuse([str(run)], "no episodes of this policy").remedy


def test_another_strategy_another_limit_or_other_weights_are_named(run: Path) -> None:
    config = run / "evaluate/config.yaml"
    text = config.read_text()
    settings = yaml.safe_load(text)
    settings["context"]["strategy"] = "mask"
    config.write_text(yaml.safe_dump(settings))
    refuse([str(run)], "rewrite nothing themselves")
    settings["context"] |= {"strategy": "learned", "max_turns": 8}
    config.write_text(yaml.safe_dump(settings))
    refuse([str(run)], "has changed since its episodes were played")
    config.write_text(text)
    weights = run / "grpo/done"
    weights.write_text(weights.read_text().replace("{", '{"other": 1,', 1))
    assert "tightrope evaluate" in refuse([str(run)], "was made from another grpo").remedy


def test_other_episodes_and_another_number_of_samples_are_not_mixed(done: Path) -> None:
    line = [str(done), "--policies=careful", "--forks=1"]
    assert "--clean" in refuse([*line, "--samples=2"], "played otherwise").remedy
    stage = stage_in(done, "evaluate")
    stage.write_episodes("careful", stage.read_episodes("careful")[:1])
    refuse([*line, "--samples=1"], "forks of other episodes")
    assert run_main(main, [*line, "--samples=1", "--clean"]) == 0
    assert len(rows_in(done, "careful")) == 1


def test_a_record_that_would_be_played_otherwise_today_or_is_damaged_is_refused(run: Path) -> None:
    stage = stage_in(run, "evaluate")
    episodes = stage.read_episodes("careful")
    opened = episodes[0].events[0].model_copy(update={"prefix_ids": (1, 2, 3)})
    turn = episodes[0].turns[0].model_copy(update={"prompt_end": 3})
    other = episodes[0].model_copy(
        update={
            "events": (opened, *episodes[0].events[1:]),
            "turns": (turn, *episodes[0].turns[1:]),
        }
    )
    stage.write_episodes("careful", [other])
    refuse([str(run), "--policies=careful"], "not what its run would play today")
    path = stage.episode_file("careful")
    path.write_bytes(path.read_bytes()[:-20])
    refuse([str(run), "--policies=careful"], "is damaged")


def test_tasks_that_are_gone_are_named(run: Path, made: Path, tmp_path: Path) -> None:
    stage = stage_in(run, "evaluate")
    other = [each.model_copy(update={"task_id": "gone"}) for each in stage.read_episodes("careful")]
    stage.write_episodes("careful", other)
    assert "gone" in refuse([str(run), "--policies=careful"], "lacks tasks of the episodes").got
