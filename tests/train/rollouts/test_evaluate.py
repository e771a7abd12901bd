"""`tightrope evaluate`: what it needs, what it plays, and what it refuses before it plays."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from envs.errors import UserError
from envs.records import Episode
from envs.sources.build import build
from tests.train.rollouts.chat_server import ChatServer, serve
from tests.train.small_run import CONFIG, add_policy, add_tokenizer, arguments, settings_in
from tightrope_cli.evaluate import main, parse
from train.config.settings import Settings
from train.costs.run_costs import SECONDS
from train.models.model import load_tokenizer, random_tiny, run_tokenizer
from train.stages.run_dir import StageDir, stage_dir

NUM_TASKS = 2
QUICK = ("--evaluate.num_samples=2", f"--evaluate.num_tasks={NUM_TASKS}", "--context.max_turns=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all its stages, and a model folder that knows nothing of it."""
    folder = tmp_path_factory.mktemp("evaluate")
    build("synthetic", out_dir=folder / "tasks", counts={"train": 4, "dev": 1, "test": 3}, seed=0)
    settings = settings_in(folder)
    add_tokenizer(settings)
    add_policy(settings)
    grpo = stage_dir(settings, "grpo").path
    shutil.copytree(grpo / "adapter", grpo / "checkpoints" / "checkpoint-40")
    load_tokenizer(run_tokenizer(settings)).save_pretrained(
        stage_dir(settings, "sft").path / "model"
    )
    shutil.copytree(stage_dir(settings, "sft").path / "model", folder / "model")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The same run, for one test to change."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def evaluate(folder: Path, *policies: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Evaluate, and return the summary."""
    line = ["--config", str(CONFIG), *arguments(folder), *QUICK, *more]
    assert main([*line, "--policies", *policies]) == 0
    path = stage_of(settings_in(folder)).path / "summary.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def stage_of(settings: Settings) -> StageDir:
    return stage_dir(settings, "evaluate")


def played(folder: Path, name: str) -> list[Episode]:
    return stage_of(settings_in(folder)).read_episodes(name)


def test_scripts_need_tasks_only(tmp_path: Path) -> None:
    """No tokenizer, no demonstrations; not even tasks to train on."""
    counts = {"train": 0, "dev": 0, "test": NUM_TASKS}
    build("synthetic", out_dir=tmp_path / "tasks", counts=counts, seed=0)
    asked = tuple(f"--tasks.{split}={count}" for split, count in counts.items())
    summary = evaluate(tmp_path, "gold", "careful", more=(*asked, "--context.max_turns=9"))
    rows = {row["name"]: row for row in summary["policies"]}
    assert rows["gold"]["pass_rate"] == 1.0
    assert [path.name for path in (tmp_path / "runs" / "smoke").iterdir()] == ["evaluate"]
    seconds = stage_of(settings_in(tmp_path)).read_json(SECONDS)
    assert seconds.keys() == {"gold", "careful"} and min(seconds.values()) > 0


@pytest.mark.parametrize("kind", ["tiny", "folder"])
def test_base_needs_no_demonstrations_and_plays_like_any_other(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    pretrained = (f"--model.base={folder / 'model'}", "--model.tiny=[256, 4]")
    base = () if kind == "tiny" else pretrained
    runs = f"--run.dir={tmp_path / 'other'}"
    config = tmp_path / "smoke.yaml"
    shape = "  tiny: [64, 2]"  # for `base: tiny` alone
    config.write_text(CONFIG.read_text().replace(shape, "" if base else shape))
    line = ["--config", str(config), *arguments(folder), *QUICK, runs, *base]
    assert main([*line, "--policies", "base", "base-greedy", "gold"]) == 0
    path = tmp_path / "other" / "smoke" / "evaluate" / "summary.json"
    rows = json.loads(path.read_text())["policies"]
    assert [(row["num_tasks"], row["num_samples"]) for row in rows] == [(2, 4), (2, 2), (2, 2)]


def test_names_folders_and_checkpoints_meet_the_same_tasks_windows_and_seeds(folder: Path) -> None:
    run = folder / "runs" / "smoke"
    checkpoint = str(run / "grpo" / "checkpoints" / "checkpoint-40")
    summary = evaluate(
        folder, "sft", "grpo", checkpoint, f"{checkpoint}:greedy", str(run / "sft" / "model"),
        str(run / "grpo" / "adapter"), "gold",
    )  # fmt: skip
    names = [row["name"] for row in summary["policies"]]
    assert names == [
        "sft", "grpo", "grpo-checkpoint-40", "grpo-checkpoint-40", "sft-model", "grpo-adapter",
        "gold",
    ]  # fmt: skip
    assert [row["sampling"] for row in summary["policies"]][3] == "greedy"
    found = {name: played(folder, name) for name in names}
    met = {n: [(e.task_id, e.window_tokens, e.seed) for e in found[n]] for n in names}
    assert met["gold"] == met["sft"][::2]
    assert all(met[name] == met["sft"] for name in names[:-1])
    acts = {name: [e.segment_ids for e in found[name]] for name in names}
    assert acts["grpo-checkpoint-40"] == acts["grpo"] == acts["grpo-adapter"] != acts["sft"]
    assert acts["sft-model"] == acts["sft"]
    pairs = [(each["first"], each["second"]) for each in summary["comparisons"]]
    assert pairs == [
        ("sft", "grpo"), ("sft", "grpo-checkpoint-40"), ("sft", "sft-model"),
        ("sft", "grpo-adapter"),
    ]  # fmt: skip


def test_resuming_plays_what_is_missing_and_nothing_that_changed(folder: Path) -> None:
    adapter = folder / "runs" / "smoke" / "grpo" / "checkpoints" / "checkpoint-40"
    evaluate(folder, str(adapter))
    path = stage_of(settings_in(folder)).episode_file("grpo-checkpoint-40")
    before = path.stat().st_mtime_ns
    summary = evaluate(folder, str(adapter), "noop", more=("--resume",))
    assert [row["name"] for row in summary["policies"]] == ["grpo-checkpoint-40", "noop"]
    assert path.stat().st_mtime_ns == before
    kept = path.parents[1] / "played.json"
    older = json.loads(kept.read_text())  # of a version that had no thresholds
    assert older["grpo-checkpoint-40"]["context"].pop("fill_threshold")
    kept.write_text(json.dumps(older))
    evaluate(folder, str(adapter), "noop", more=("--resume",))
    assert path.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"has changed since.*num_samples: 2 -> 1") as caught:
        evaluate(folder, str(adapter), more=("--resume", "--evaluate.num_samples=1"))
    assert str(path) in caught.value.remedy
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name: 2 * tensor for name, tensor in weights.items()},
        adapter / "adapter_model.safetensors",
    )
    with pytest.raises(UserError, match=r"has changed since its episodes were played.*weights"):
        evaluate(folder, str(adapter), "noop", more=("--resume",))
    path.unlink()
    evaluate(folder, str(adapter), "noop", more=("--resume",))
    assert path.is_file()


def with_config(adapter: Path, **changes: object) -> Path:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return adapter


def another_base(folder: Path) -> Path:
    """Return an adapter of another run, whose base differs in its weights."""
    other = settings_in(folder, "--run.name=other", "--run.seed=5")
    add_tokenizer(other)
    add_policy(other)
    found = stage_dir(other, "grpo").path / "adapter"
    return with_config(found, base_model_name_or_path=str(stage_dir(other, "sft").path / "model"))


def another_rank(folder: Path) -> Path:
    """Return an adapter whose adapter_config.json has another rank than its weights."""
    found = Path(shutil.copytree(folder / "runs/smoke/grpo/adapter", folder / "rank"))
    return with_config(found, r=4)


def other_layers(folder: Path) -> Path:
    """Return an adapter for modules that the base does not have."""
    found = Path(shutil.copytree(folder / "runs/smoke/grpo/adapter", folder / "layers"))
    return with_config(found, target_modules=["c_attn"])


def no_weights(folder: Path) -> Path:
    """Return a checkpoint of ZeRO-3 that holds shards only."""
    found = Path(shutil.copytree(folder / "runs/smoke/grpo/adapter", folder / "zero"))
    (found / "adapter_model.safetensors").unlink()
    (found / "global_step40").mkdir()
    return found


def small_vocabulary(folder: Path) -> Path:
    """Return a model with fewer tokens than its tokenizer."""
    settings = settings_in(folder)
    tokenizer = load_tokenizer(run_tokenizer(settings))
    model = random_tiny(settings, tokenizer)
    model.resize_token_embeddings(len(tokenizer) - 100)
    model.save_pretrained(folder / "small")
    tokenizer.save_pretrained(folder / "small")
    return folder / "small"


def damaged(folder: Path, name: str, *, size: int) -> Path:
    """Return a copy of an adapter or of a model, one file of which is cut to `size` bytes."""
    whole = "model" if (folder / "model" / name).is_file() else "runs/smoke/grpo/adapter"
    found = Path(shutil.copytree(folder / whole, folder / f"damaged{size}"))
    (found / name).write_bytes((found / name).read_bytes()[:size])
    return found


@pytest.mark.parametrize(
    "name",
    ["adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors"],
)
def test_a_damaged_file_is_refused_before_anything_is_played(folder: Path, name: str) -> None:
    for size in (0, 20, 500):
        place = damaged(folder, name, size=size)
        with pytest.raises(UserError, match=f"files cannot be read .got: .*damaged{size}"):
            evaluate(folder, "gold", str(place))
    assert not stage_of(settings_in(folder)).path.exists()


@pytest.mark.parametrize("place", ["/no-such-folder", "/no-such-folder/grpo/adapter"])
def test_a_folder_that_is_not_there_is_looked_for_nowhere_else(folder: Path, place: str) -> None:
    with pytest.raises(UserError, match="is not there") as caught:
        evaluate(folder, place)
    assert caught.value.remedy.startswith("name a folder with adapter_config.json")


@pytest.mark.parametrize(
    ("place", "told", "remedy"),
    [
        (another_base, "was trained on another base", "--config (and --run.name)"),
        (another_rank, "does not fit this run's base", "adapter_config.json saved beside it"),
        (other_layers, "does not fit this run's base", "adapter_config.json saved beside it"),
        (no_weights, "has no weights (got: ", "adapter_model.safetensors"),
        (small_vocabulary, "fewer tokens than its prompts", "put the tokenizer"),
        (lambda folder: folder / "runs/smoke/grpo", "without an adapter or", "grpo/adapter"),
        (lambda folder: folder / "runs/smoke/grpo/adaptre", "not there", "grpo/adapter"),
        (lambda folder: folder / "tasks", "without an adapter or a model", "accelerate launch"),
    ],
    ids=["base", "rank", "layers", "shards", "vocabulary", "near", "typo", "no model"],
)
def test_what_does_not_fit_is_refused_before_anything_is_played(
    folder: Path, place, told: str, remedy: str
) -> None:
    with pytest.raises(UserError) as caught:
        evaluate(folder, "gold", str(place(folder)))
    assert told in str(caught.value)
    assert remedy in caught.value.remedy
    assert not stage_of(settings_in(folder)).path.exists()


@pytest.mark.parametrize(
    ("policies", "stage"),
    [(["sft"], "sft"), (["grpo-greedy"], "sft"), (["runs/smoke/grpo/adapter"], "sft")],
    ids=["sft", "grpo", "adapter"],
)
def test_a_missing_stage_is_named_only_where_it_is_needed(
    folder: Path, policies: list[str], stage: str
) -> None:
    shutil.rmtree(folder / "runs" / "smoke" / stage)
    places = [str(folder / text) if "/" in text else text for text in policies]
    with pytest.raises(UserError, match=f"{stage} is missing"):
        evaluate(folder, *places)
    assert evaluate(folder, "gold")["policies"][0]["name"] == "gold"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--policies ./a/b sft --resume", ("./a/b", "sft")),
        ("--policies=./a/b --evaluate.policies=[gold]", ("./a/b",)),
        ("--evaluate.policies=[gold]", ("gold",)),
    ],
    ids=["several", "stronger than the setting", "the setting"],
)
def test_the_flag_is_the_setting(line: str, expected: tuple[str, ...]) -> None:
    command = parse(["--config", "configs/smoke.yaml", *line.split()])
    assert tuple(command.settings.evaluate.policies) == expected
    assert "evaluate.policies" in command.experiment


def test_a_model_behind_a_server_is_played_and_its_tokens_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TIGHTROPE_ENDPOINT_KEY", "secret")
    submit = '<tool_call>\n{"name": "submit", "arguments": {}}\n</tool_call>'
    usage = {"prompt_tokens": 50, "completion_tokens": 4}
    wide = ("--context.window_tokens=[2000, 2000]", "--context.max_new_tokens=64")
    with serve(ChatServer(lambda _: {"content": submit}, usage=usage, key="secret")) as server:
        name = f"endpoint:{server.url}#m/gold"
        row, greedy = evaluate(folder, name, f"{name}:greedy", more=wide)["policies"]
    assert (row["name"], row["sampling"]) == ("m-gold", "temperature 1")
    assert row["stop_reasons"] == {"submitted": 4} and row["calls"]["hermes"] == 4
    assert row["usage"]["prompt_tokens"] == 4 * 50 and row["usage"]["num_requests"] == 4
    assert greedy["usage"]["completion_tokens"] == 2 * 4
    assert {asked["temperature"] for asked in server.seen} == {0.0, 1.0}
    assert "read_lines" in server.seen[0]["messages"][0]["content"], "it is told of the tools"
    out = capsys.readouterr()
    assert "200 prompt and 16 completion tokens in 4 requests" in out.out + out.err
    files = stage_of(settings_in(folder)).path.rglob("*")
    assert not any(b"secret" in path.read_bytes() for path in files if path.is_file())
    with pytest.raises(UserError, match="cannot be reached"):
        evaluate(folder, name, more=(*wide, "--clean"))
