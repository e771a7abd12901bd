"""Ten wrong situations: each ends with one helpful message and the right exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote

import pytest
from safetensors.numpy import save_file

from envs.errors import UserError
from envs.sources.build import build
from tests.train.small_run import CONFIG, ROOT, add_base, add_tokenizer, arguments, settings_in
from tightrope_cli import demos
from train import grpo
from train.stages.exit_codes import run_main
from train.stages.open_stage import open_stage
from train.stages.run_dir import stage_dir

SMOLLM2 = ROOT / "configs" / "smollm2.yaml"
PRETRAINED = ("--tasks.source=synthetic", "--tasks.test=10", "--sft.needs_rewrite_share=0.3",
              "--reward.second_runner_share=0")  # fmt: skip
PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task set, and a run that has a tokenizer and nothing else."""
    found = tmp_path_factory.mktemp("situations")
    build("synthetic", out_dir=found / "tasks", counts={"train": 8, "dev": 2, "test": 8}, seed=0)
    add_tokenizer(settings_in(found))
    return found


@pytest.fixture
def complaint(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Run a command that must end with code 2; returns its one line."""

    def run(main, *overrides: str, config: Path = CONFIG) -> str:
        capsys.readouterr()
        assert run_main(main, [f"--config={config}", *arguments(folder), *overrides]) == 2
        error = capsys.readouterr().err
        *_, last = error.splitlines()
        assert last.startswith("error: "), error
        assert "Remedy: " in last
        assert "Traceback" not in error
        return last

    return run


def model_folder(folder: Path, *, model_type: str, **others: object) -> Path:
    """Make a folder that looks like a model's, with the tiny tokenizer."""
    tokenizer = stage_dir(settings_in(folder), "demos").path / "tokenizer"
    found = folder / model_type
    shutil.copytree(tokenizer, found)
    (found / "config.json").write_text(json.dumps({"model_type": model_type, **others}))
    save_file({}, found / "model.safetensors")
    return found


def test_no_tasks(complaint, tmp_path: Path) -> None:
    elsewhere = f"--tasks.dir={tmp_path / 'none'}"
    said = complaint(demos.main, elsewhere)
    assert f"{tmp_path / 'none'} is missing" in said
    assert f"Remedy: tightrope tasks build --config {quote(str(CONFIG))}" in said
    assert "--tasks.dir" in said.split("Remedy")[1], "or the command would build other tasks"


def test_no_checkpoint(complaint) -> None:
    said = complaint(grpo.main, "--force")
    assert "sft is missing" in said
    assert f"Remedy: accelerate launch train/sft.py --config {quote(str(CONFIG))}" in said


def test_mixed_up_stages(complaint, folder: Path) -> None:
    settings = settings_in(folder, "--run.name=mixed")
    add_tokenizer(settings)
    add_base(settings)
    made = stage_dir(settings, "demos")
    stage = open_stage(settings, "sft", clean=True, inputs=[made])
    stage.finish({}, output=stage.config)
    (made.path / "demonstrations.jsonl").write_text("other ones")
    made.finish({}, output=made.path / "demonstrations.jsonl")
    said = complaint(grpo.main, "--run.name=mixed", "--force")
    assert "sft was made from another demos (got: made anew since)" in said
    assert "accelerate launch train/sft.py" in said
    assert said.endswith("--run.name mixed --clean")


def test_too_small_a_window(complaint) -> None:
    said = complaint(
        demos.main,
        "--run.name=small",
        "--context.window_tokens=[200, 200]",
        "--context.max_new_tokens=24",
    )
    assert "demonstration on" in said
    assert "Remedy: widen context.window_tokens" in said


def test_unknown_model_class(complaint, folder: Path) -> None:
    base = f"--model.base={model_folder(folder, model_type='hyena')}"
    said = complaint(demos.main, "--run.name=odd", base, *PRETRAINED, config=SMOLLM2)
    assert "has no causal language model of this type (got: model_type hyena in" in said
    assert not (folder / "runs" / "odd").exists()


def test_layers_without_a_cache(complaint, folder: Path) -> None:
    base = f"--model.base={model_folder(folder, model_type='deepseek_v32')}"
    said = complaint(demos.main, "--run.name=odd", base, *PRETRAINED, config=SMOLLM2)
    assert "no cache for layers of this base (got: DynamicIndexedLayer in" in said


def test_template_without_tools(complaint, folder: Path) -> None:
    base = f"--model.base={model_folder(folder, model_type='qwen2')}"
    (folder / "plain.jinja").write_text(PLAIN)
    template = f"--model.chat_template={folder / 'plain.jinja'}"
    said = complaint(
        demos.main,
        "--run.name=plain",
        "--tasks.recorded_calls=used",
        base,
        template,
        *PRETRAINED,
        config=SMOLLM2,
    )
    assert "the chat template does not render tool calls and results" in said
    assert "set model.chat_template to text_calls" in said


def test_unreachable_hub(folder: Path, tmp_path: Path) -> None:
    program = [sys.executable, "scripts/main.py", "demos", f"--config={SMOLLM2}", *PRETRAINED]
    shown = subprocess.run(
        [*program, *arguments(folder), "--model.base=some/model", "--run.name=hub"],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path)},
        cwd=ROOT,
        check=False,
    )
    assert shown.returncode == 2, shown.stderr
    assert "error: cannot get some/model from the model hub" in shown.stderr
    assert "tightrope model fetch qwen2.5-coder-0.5b" in shown.stderr


@pytest.mark.parametrize(
    ("options", "part", "remedy"),
    [
        ("size=64k", "the disk is full", "free some space"),
        ("ro", "no access: Read-only file system", "folders that you may read and write"),
    ],
    ids=["full disk", "read-only run directory"],
)
@pytest.mark.mounts
def test_storage(options: str, part: str, remedy: str, folder: Path, tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'
    mounted = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, options, str(tmp_path)]
    program = [sys.executable, "scripts/main.py", "demos", f"--config={CONFIG}"]
    shown = subprocess.run(
        [*mounted, *program, *arguments(folder), f"--run.dir={tmp_path}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert shown.returncode == 2, shown.stderr
    assert f"error: {part}" in shown.stderr
    assert remedy in shown.stderr
    assert "Traceback" not in shown.stderr


def test_killed_worker(folder: Path) -> None:
    """Kill one of two training processes: the other says so, both end, nothing hangs."""
    name = "--run.name=killed"
    overrides = [*arguments(folder), name, "--sft.num_demonstrations=12", "--sft.epochs=500"]
    assert run_main(demos.main, [f"--config={CONFIG}", *overrides]) == 0
    rows = stage_dir(settings_in(folder, name), "sft").path / "metrics.jsonl"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    launcher = subprocess.Popen(
        [*torchrun, "train/sft.py", f"--config={CONFIG}", *overrides],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while launcher.poll() is None and not rows.exists():
        time.sleep(0.05)
    workers = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    ranks = sorted(int(pid) for pid in workers if "train/sft.py" in command_of(int(pid)))
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    said = launcher.communicate(timeout=580)[1]
    assert launcher.returncode == 1
    assert "error: another process of this run has ended (got: " in said
    assert "Remedy: see what ended it" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def test_what_was_made_from_another_stage_stays_finished(folder: Path) -> None:
    settings = settings_in(folder, "--run.name=kept")
    made = open_stage(settings, "grpo")
    made.finish({}, output=made.config)
    export = open_stage(settings, "export", inputs=[made])
    export.finish({}, output=export.config)
    made.finish({"anew": True}, output=made.config)
    with pytest.raises(UserError, match="begun with another grpo"):
        open_stage(settings, "export", resume=True, reopen=True)
    assert export.is_done()
