"""Settings: what is read, what is refused, and that everything wrong is said at once."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.demo import ABLATIONS, overrides_of
from envs.errors import UserError
from train import grpo
from train.config.load import Flag, load_settings, parse_command, parse_flags
from train.config.settings import list_fields
from train.config.trl_arguments import with_defaults
from train.stages.exit_codes import run_main
from train.stages.run_dir import dump_settings

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
OWN = "tests.train.config.own_functions"
LEAST = {"run": {"name": "x"}, "model": {"base": "tiny"}, "prompt": {"tools": "none"}}
GRPO = {"prog": "accelerate launch train/grpo.py", "description": "d", "example": "grpo --config x"}


def write(folder: Path, data: object) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


def refusal(config: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_settings(config, overrides)
    return str(caught.value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load_and_survive_a_round_trip(config: Path, tmp_path: Path) -> None:
    settings = load_settings(config)
    assert load_settings(write(tmp_path, dump_settings(settings))) == settings


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_of_real_projects_ask_all_that_a_pass_can_be_asked(config: Path) -> None:
    settings = load_settings(config)
    is_real = settings.tasks.source == "projects"
    assert (settings.tasks.recorded_calls == "required") == is_real
    assert (settings.reward.second_runner_share > 0) == is_real


def test_every_field_has_a_meaning() -> None:
    assert [
        path for path, field in list_fields().items() if len(field.description or "") < 10
    ] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--grpo.learning_rate", "2e-6"],
        ["--grpo.learning_rate=2e-6"],
        ["--grpo.learning_rate=2.0e-6"],
    ],
    ids=["space", "equals", "with a point"],
)
def test_exponents_are_numbers_on_the_command_line(arguments: list[str], tmp_path: Path) -> None:
    assert yaml.safe_load("2e-6") == "2e-6"  # the reason for this test
    assert load_settings(write(tmp_path, LEAST), arguments).grpo.learning_rate == 2e-6


def test_exponents_are_numbers_in_the_file(tmp_path: Path) -> None:
    text = "run: {name: x}\nmodel: {base: tiny}\ngrpo: {learning_rate: 2e-6}\n"
    assert load_settings(write(tmp_path, text)).grpo.learning_rate == 2e-6


@given(st.floats(min_value=1e-12, max_value=10, allow_nan=False))
def test_any_float_survives_the_command_line(tmp_path_factory, value: float) -> None:
    config = write(tmp_path_factory.mktemp("any"), LEAST)
    assert load_settings(config, [f"--sft.learning_rate={value!r}"]).sft.learning_rate == value


@pytest.mark.parametrize(
    ("argument", "section", "field", "value"),
    [
        ("--context.window_tokens=[500, 600]", "context", "window_tokens", (500, 600)),
        ("--tasks.dir=null", "tasks", "dir", None),
        ("--run.deterministic=true", "run", "deterministic", True),
        ("--run.name=007", "run", "name", "007"),
        ("--evaluate.policies=[gold, noop]", "evaluate", "policies", ["gold", "noop"]),
        ("--tasks.difficulty={sites: [1, 2]}", "tasks", "difficulty", {"sites": (1, 2)}),
        ("--tasks.difficulty.sites=[1, 2]", "tasks", "difficulty", {"sites": (1, 2)}),
        ("--grpo.trl.max_grad_norm=0.5", "grpo", "trl", {"max_grad_norm": 0.5}),
        ("--grpo.trl.torch_compile=true", "grpo", "trl", {"torch_compile": True}),
        ("--grpo.trl={optim: sgd, tf32: null}", "grpo", "trl", {"optim": "sgd", "tf32": None}),
    ],
    ids=[
        "list",
        "null",
        "bool",
        "digits as text",
        "names",
        "ranges",
        "range of one name",
        "number of TRL",
        "bool of TRL",
        "section of TRL",
    ],
)
def test_overrides_take_any_type(argument, section, field, value, tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, LEAST), ["--context.max_new_tokens=64", argument])
    assert getattr(getattr(settings, section), field) == value


def test_overrides_reach_nested_sections_and_win_over_the_file(tmp_path: Path) -> None:
    data = {**LEAST, "grpo": {"trl": {"max_grad_norm": 2.0}}}
    settings = load_settings(write(tmp_path, data), ["--grpo.trl.max_grad_norm", "0.5"])
    assert settings.grpo.trl == {"max_grad_norm": 0.5}


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    data = {
        **LEAST,
        "grpo": {"learning_rat": "2e-6", "group_size": "many", "start_from": "base"},
        "sft": {"needs_rewrite_share": 0.1},
        "context": {"window_tokens": [600, 500], "max_new_tokens": 64},
        "tasks": {"source": "nowhere.at:all"},
    }
    trl = ["--grpo.trl.max_grad_nrom", "0.5", "--grpo.trl.beta=0.1", "--grpo.trl.max_grad_norm=low"]
    other = ["--reward.outcome", "perfect", "--group_size.x", "1"]
    message = refusal(write(tmp_path, data), *other, *trl)
    for part in (
        "10 errors",
        "grpo.trl.max_grad_nrom: unknown key; did you mean 'max_grad_norm'? (got",
        "grpo.trl.beta: derived; set grpo.kl_weight instead",
        "grpo.trl.max_grad_norm: input should be a valid number, unable to parse string as a numb",
        "tasks.source: nowhere.at:all does not import (ModuleNotFoundError: No module named 'nowh",
        "grpo.learning_rat: unknown key; did you mean 'learning_rate'? (got 2e-6)",
        "grpo.group_size: input should be a valid integer",
        "reward.outcome: input should be 'binary' or 'graded' (got perfect)",
        "group_size: unknown key; did you mean 'grpo.group_size'?",
        "context.window_tokens: the least window 600 is larger than the largest 500",
        "grpo.start_from and model.base: the tiny model has no pretrained weights",
    ):
        assert part in message


def test_a_conflict_with_a_wrong_field_is_not_made_up(tmp_path: Path) -> None:
    data = {**LEAST, "context": {"window_tokens": "wide", "max_new_tokens": 600}}
    message = refusal(write(tmp_path, data))
    assert "cannot hold two outputs" not in message  # true of the default window only
    assert "context.window_tokens: input should be a valid tuple (got wide)" in message


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["--context.window_tokens=[200,2048]"], "cannot hold two outputs"),
        (["--prompt.tools=full"], "900 for tool schemas"),
        (["--context.max_sampled_tokens=100"], "cannot hold one turn"),
        (["--grpo.tokens_per_microbatch=2000"], "a row may be as long as the largest window"),
        (["--sft.tokens_per_batch=2000"], "a row may be as long as the largest window"),
        (
            ["--context.window_tokens={of_least_peak: [1, 2], at_most: 9000}"],
            "window 9000, more than 4096; raise that, or lower its at_most",
        ),
        (
            ["--context.window_tokens={of_least_peak: [1, 2], at_most: 300}"],
            "a window of 300 cannot hold two outputs",
        ),
        (["--context.without=[edit_lines]"], "input should be 'list_files'"),
        (["--context.without=[evict, evict]"], "evict is named twice"),
        (["--context.without=[plan]", "--context.strategy=mask"], "mask has no plan to take away"),
        (["--model.tiny=[48, 2]"], "multiple of 32"),
        (["--sft.needs_rewrite_share=0.1"], "0.1 is too few to learn to rewrite; use 0.3"),
        (["--sft.needs_rewrite_share=0.7"], "wasteful ones have no room"),
        (["--sft.forced_share=0.4"], "unknown key; its name is 'sft.needs_rewrite_share' now"),
        (["--model.base=org/model"], "was not trained on our tools"),
        (["--grpo.trl={loss_type: cispo, epsilon_high: 0.28}"], "cispo cuts each token's weight"),
        (["--grpo.trl.epsilon_high=0.1"], "below the lower one"),
        (["--grpo.trl.epsilon=2"], "2.0 is not between 0 and 1"),
        (["--grpo.trl.epsilon=0.1"], "in the one update per rollout there is nothing to clip yet"),
        (["--grpo.trl.loss_type=cispo"], "nothing to clip yet; use 2, or leave it out"),
        (["--grpo.trl={loss_type: cispo, epsilon: 0.1}"], "cispo has no lower clip; leave it out"),
        (["--grpo.updates_per_rollout=3"], "16 groups do not divide among 3 updates; use a divis"),
        (["--grpo.trl.loss_type=grpo"], "weigh an episode by its number of rows; use dapo or ci"),
        (["--grpo.trl.vllm_mode=server"], "fixed: episodes are sampled by Tightrope"),
        (["--run.deterministic=true", "--model.precision=bf16"], "need fp32"),
        (["--model.load_in_4bit=true"], "the tiny model is trained whole"),
        ([f"--reward.advantage={OWN}:absent"], "has no attribute 'absent'"),
        ([f"--reward.advantage={OWN}:NOT_A_FUNCTION"], "NOT_A_FUNCTION is no function"),
        ([f"--reward.advantage={OWN}:without_weight"], "must take (x, *, scores, cost_weight)"),
        (["--reward.advantage=zcore"], "'zscore' or package.module:function (got zcore)"),
        (["--tasks.difficulty={site: [1, 2]}"], "difficulty.site: tasks have no such measure; did"),
        (["--tasks.difficulty={hardness: [1, 2]}"], "known: sites, files, lines, failing_tests"),
        (
            ["--tasks.difficulty={sites: [2, 1]}"],
            "difficulty.sites: the least, 2, is above the mos",
        ),
        (
            ["--tasks.difficulty={sites: 2}"],
            "tasks.difficulty: input should be a valid tuple (got 2)",
        ),
        (["--evaluate.num_tasks=300"], "300 tasks to evaluate, 200 in the split"),
        (["--grpo.group_size=1"], "greater than or equal to 2"),
        (["--sft.wasteful_share=0.6"], "less than or equal to 0.5"),
    ],
    ids=lambda value: value[-1].strip("-") if isinstance(value, list) else None,
)
def test_impossible_combinations_are_refused(overrides, reason, tmp_path: Path) -> None:
    assert reason in refusal(write(tmp_path, LEAST), *overrides)


@pytest.mark.parametrize("form", ABLATIONS)
def test_the_demos_ablations_are_possible(form: str) -> None:
    settings = load_settings(ROOT / "configs" / "tiny.yaml", overrides_of(form))
    assert settings.reward.advantage == form


def test_what_depends_on_another_field_follows_it_where_it_is_not_given(tmp_path: Path) -> None:
    config = write(tmp_path, LEAST)
    assert load_settings(config, ["--model.lora_rank=4"]).model.lora_alpha == 8
    both = ["--model.lora_rank=4", "--model.lora_alpha=3"]
    assert load_settings(config, both).model.lora_alpha == 3
    assert refusal(config, "--model.lora_rank=many").count("model.lora") == 1
    whole = load_settings(config, ["--context.strategy=full_history"])
    assert whole.sft.needs_rewrite_share == 0
    assert load_settings(write(tmp_path, dump_settings(whole))) == whole


def test_cispo_alone_gets_its_own_upper_clip() -> None:
    assert with_defaults({})["epsilon_high"] == 0.28
    assert with_defaults({"loss_type": "cispo"})["epsilon_high"] == 5.0
    assert with_defaults({"epsilon_high": 0.3, "optim": None}) == {
        "loss_type": "dapo",
        "epsilon": 0.2,
        "epsilon_high": 0.3,
        "warmup_steps": 3,
    }


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("grpo: {learning_rat: 1e-5}", [], "unknown key; did you mean 'learning_rate'? (got 1e-5)"),
        ("grpo: {group_size: many}", [], "grpo.group_size: input should be a valid integer"),
        ("", ["--sft.wasteful_share=0.6"], "should be less than or equal to 0.5 (got 0.6)"),
        ("", ["--context.window_tokens=[400,2048]"], "a window of 400 cannot hold two outputs"),
        ("", ["--model.attn_implementation=sdp"], "should be 'sdpa', 'eager', 'flash_attention_2'"),
        ("", ["--grpo.trl.max_grad_nrom", "1"], "unknown key; did you mean 'max_grad_norm'?"),
        ("", ["--grpo.trl.beta=0.1"], "grpo.trl.beta: derived; set grpo.kl_weight instead"),
        (
            "reward: {advantage: my.own:form}",
            [],
            "my.own:form does not import (ModuleNotFoundError",
        ),
        ("", ["--grpo.start_from=base"], "the tiny model has no pretrained weights to start from"),
        ("sft: {epochs: 1}\nsft: {epochs: 2}", [], "key 'sft' is given twice"),
    ],
    ids=[
        "misspelt key",
        "text for a number",
        "too large a share",
        "too small a window",
        "unknown attention",
        "misspelt argument of TRL",
        "derived argument of TRL",
        "function that does not import",
        "nothing to start from",
        "section given twice",
    ],
)
def test_a_wrong_configuration_ends_with_one_message_and_code_2(
    text: str, overrides: list[str], message: str, tmp_path: Path, capsys
) -> None:
    config = write(tmp_path, f"run: {{name: x}}\nmodel: {{base: tiny}}\n{text}\n")
    assert run_main(grpo.main, ["--config", str(config), "--prompt.tools=none", *overrides]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith(f"error: {config}")
    assert error.count("\n") == 1
    assert "Remedy: correct the file" in error


def test_a_section_has_at_most_15_settings() -> None:
    sizes = Counter(path.partition(".")[0] for path in list_fields())
    assert max(sizes.values()) <= 15


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("run: [", "is not YAML"),
        ("- a\n", "holds no sections"),
        ("run: {name: x}\nrun: {name: y}\n", "'run' is given twice"),
        ("run: 3\nmodel: {base: tiny}\n", "run: "),
        ("run: {name: x}\n", "model: required"),
        ("run: {name: ../x}\nmodel: {base: tiny}\n", "run.name"),
    ],
    ids=["broken", "a list", "twice", "no section", "missing", "path as name"],
)
def test_unreadable_files_are_named(text: str, part: str, tmp_path: Path) -> None:
    config = write(tmp_path, text)
    message = refusal(config)
    assert part in message
    assert str(config) in message


def test_missing_file_is_the_users_error(tmp_path: Path) -> None:
    assert "cannot read" in refusal(tmp_path / "none.yaml")


def test_command_line_is_taken_apart(tmp_path: Path) -> None:
    config = write(tmp_path, LEAST)
    line = f"--grpo.max_steps 3 show --config {config} --resume --count 5 --run.seed=2".split()
    flags = [Flag("action", "what", choices=("build", "show")), Flag("--count", "n", kind=int)]
    command = parse_command(line, **GRPO, flags=flags)
    assert command.flags == {"action": "show", "count": 5}
    assert (command.resume, command.clean, command.config) == (True, False, config)
    assert (command.settings.grpo.max_steps, command.settings.run.seed) == (3, 2)
    assert command.overrides == ("--grpo.max_steps", "3", "--run.seed", "2")


def test_the_cache_moves_by_variable_and_a_flag_is_stronger(tmp_path: Path, monkeypatch) -> None:
    line = ["--config", str(write(tmp_path, LEAST))]
    monkeypatch.delenv("TIGHTROPE_CACHE", raising=False)
    assert parse_command(line, **GRPO).settings.run.cache == ".cache/tightrope"
    monkeypatch.setenv("TIGHTROPE_CACHE", "/big: disk/cache")
    assert parse_command(line, **GRPO).settings.run.cache == "/big: disk/cache"
    assert parse_command(line, **GRPO).overrides == ()
    assert parse_command([*line, "--run.cache=c"], **GRPO).settings.run.cache == "c"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--resum", "did you mean --resume?"),
        ("--learning_rate 3", "did you mean --sft.learning_rate or --grpo.learning_rate?"),
        ("--grpo.max_steps", "--grpo.max_steps needs a value"),
        ("--grpo.max_steps --resume", "--grpo.max_steps needs a value"),
        ("", "needs --config"),
    ],
    ids=["near flag", "field without section", "no value", "flag for value", "no config"],
)
def test_wrong_command_lines_exit_2_in_one_line(line, part, tmp_path: Path, capsys) -> None:
    arguments = line.split() + ([f"--config={write(tmp_path, LEAST)}"] if line else [])
    assert run_main(lambda argv: bool(parse_command(argv, **GRPO)), arguments) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1


def test_commands_without_an_experiment_take_flags_only() -> None:
    flags = [Flag("name", "which", choices=("smollm2-135m",)), Flag("--force", "f", kind=bool)]
    parsed = parse_flags(["smollm2-135m"], prog="p", description="d", example="e", flags=flags)
    assert parsed == {"name": "smollm2-135m", "force": False, "debug": False}
    number = [Flag("--seconds", "s", kind=float, default=3, least=1)]
    for wrong in ("0", "-2", "nan", "inf"):
        with pytest.raises(UserError, match=r"--seconds .*1 or more"):
            parse_flags(
                [f"--seconds={wrong}"], prog="p", description="d", example="e", flags=number
            )


@pytest.mark.parametrize(
    ("error", "arguments", "code", "has_traceback"),
    [
        (UserError("no", remedy="do"), [], 2, False),
        (UserError("no", remedy="do"), ["--debug"], 2, True),
        (ZeroDivisionError("bug"), [], 1, True),
        (KeyboardInterrupt(), [], 130, False),
    ],
    ids=["user", "user with --debug", "bug", "ctrl-c"],
)
def test_errors_become_exit_codes(error, arguments, code, has_traceback, capsys) -> None:
    def main(argv: list[str]) -> int:
        raise error

    assert run_main(main, arguments) == code
    assert ("Traceback" in capsys.readouterr().err) == has_traceback


def test_help_shows_example_and_fields(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_command(["--help"], **GRPO)
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert "grpo --config x" in shown
    assert "--context.max_new_tokens int [160]\n        Tokens sampled per turn" in shown


def test_loading_leaves_torch_alone() -> None:
    names = "train.config.load, train.stages.run_dir, train.stages.progress"
    code = f"import sys, {names}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "False\n"
