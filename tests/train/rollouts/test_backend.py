"""What samples is chosen in one place, and GRPO learns the same from what servers have sampled."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from envs.errors import UserError
from envs.records import Episode
from tests.train.servers.ports import free_port
from tests.train.servers.stand_in import StandIn, serve_model, stand_in_python
from tests.train.small_run import (
    CONFIG,
    add_warm_start,
    arguments,
    on_one_core,
    settings_in,
)
from train import grpo as grpo_command
from train.config.settings import Settings
from train.models.model import load_tokenizer, run_tokenizer
from train.recipes.grpo import make_starting_model
from train.rl.grpo_arguments import derive_grpo_config
from train.rl.grpo_trainer import MultiSegmentGRPOTrainer, make_step_dataset
from train.rl.importance import choose_form
from train.rl.step_rollouts import StepRollouts
from train.rollouts.backend import choose_backend, open_backend
from train.rollouts.runner import EpisodeRequest, open_runner
from train.stages.exit_codes import run_main
from train.stages.progress import Progress
from train.stages.run_dir import StageDir, stage_dir

SHORT = (
    "--context.max_turns=2",
    "--context.max_new_tokens=16",
    "--grpo.kl_weight=0.1",
    "--grpo.max_steps=3",
    "--grpo.evaluate_every=null",
)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to its warm start."""
    found = tmp_path_factory.mktemp("backend")
    add_warm_start(found, num_train=6)
    return found


def train(folder: Path, *overrides: str) -> StageDir:
    line = [*arguments(folder), *SHORT, *overrides]
    with on_one_core():
        assert run_main(grpo_command.main, [f"--config={CONFIG}", *line, "--clean"]) == 0
    return stage_dir(settings_in(folder, *line[3:]), "grpo")


class Recorded(StepRollouts):
    """Plays what a run has recorded."""

    episodes: dict[int, list[Episode]]

    def play(
        self, requests: Sequence[EpisodeRequest], model: Any, *, step: int, what: str
    ) -> list[Episode]:
        del model, what
        found = self.episodes[step]
        assert [each.seed for each in found] == [each.seed for each in requests]
        return found


def train_on(settings: Settings, recorded: StageDir, own: Path) -> dict[str, torch.Tensor]:
    """Train on recorded episodes without any sampler; returns the adapter."""
    grpo = settings.grpo
    model = make_starting_model(settings)
    with open_runner(settings) as runner, Progress("test", enabled=False) as progress:
        rollouts = Recorded(settings, runner, StageDir(own, "grpo"), progress)
        steps = range(grpo.max_steps)
        rollouts.episodes = {step: recorded.read_episodes(step + 1) for step in steps}
        trainer = MultiSegmentGRPOTrainer(
            model,
            args=derive_grpo_config(settings, own / "checkpoints"),
            train_dataset=make_step_dataset(
                num_steps=grpo.max_steps, groups_per_step=grpo.groups_per_step
            ),
            processing_class=load_tokenizer(run_tokenizer(settings)),
            rollouts=rollouts,
            tokens_per_microbatch=grpo.tokens_per_microbatch,
            importance="token_truncate",
        )
        trainer.train()
    model.save_pretrained(str(own / "adapter"), selected_adapters=["default"])
    return load_file(own / "adapter" / "adapter_model.safetensors")


def check_served_run(stage: StageDir, servers: Sequence[StandIn]) -> None:
    rows = stage.read_metrics()
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(0 <= row["mismatch_kl"] < 1e-6 for row in rows), "each step with its own version"
    assert all(row["sampling/importance_sampling_ratio/mean"] > 0.99 for row in rows)
    for server in servers:
        kinds = [kind for kind, _ in server.events]
        assert kinds == ["load", "load", "unload", "load", "unload", "unload"]
        assert len({name for _, name in server.events}) == 3 and not server.adapters
    assert list((stage.path / "served").iterdir()) == [] and not stage.served.exists()


def test_grpo_through_two_servers_is_grpo_on_the_same_episodes(
    folder: Path, tmp_path: Path
) -> None:
    settings = settings_in(folder, *SHORT)
    bases = [make_starting_model(settings).unload() for _ in range(2)]
    with serve_model(bases[0]).running() as one, serve_model(bases[1]).running() as other:
        stage = train(folder, f"--rollouts.servers=[{one.url}, {other.url}]")
        assert one.requests and other.requests
    check_served_run(stage, [one, other])
    ours = train_on(settings, stage, tmp_path)
    theirs = load_file(stage.path / "adapter" / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-7)
    start = {name: tensor for name, tensor in theirs.items() if "lora_B" in name}
    assert any(tensor.abs().max() > 0 for tensor in start.values()), "it has learned something"


def test_grpo_starts_its_servers_and_ends_them(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(run_tokenizer(settings_in(folder)))
    answer = (*tokenizer.encode("nothing"), tokenizer.eos_token_id)
    python, port = stand_in_python(tmp_path, tuple(answer)), free_port(2)
    stage = train(
        folder,
        "--rollouts.start=2",
        f"--rollouts.python={python}",
        f"--rollouts.port={port}",
        "--rollouts.server_args=[--enforce-eager]",
        "--grpo.max_steps=1",
    )
    log = (stage.path / "vllm_1.txt").read_text()
    assert f"--model {folder}/runs/smoke/sft/model --served-model-name smoke-" in log
    assert f"--port {port + 1}" in log and log.rstrip().endswith("--enforce-eager")
    with pytest.raises(UserError, match="does not answer as vLLM does"):
        list(open_servers(folder, f"http://127.0.0.1:{port}"))


def open_servers(folder: Path, url: str, *overrides: str) -> Any:
    settings = settings_in(folder, f"--rollouts.servers=[{url}]", *overrides)
    stage = stage_dir(settings, "grpo")
    with open_backend(settings, stage) as acting:
        assert stage.served.is_file(), "for the next start, should this one be killed"
        yield acting
    assert not stage.served.exists()


def test_what_a_killed_run_has_left_on_servers_goes_at_the_start(folder: Path) -> None:
    server = StandIn(lambda name, body: ([], [], "stop"))
    with server.running():
        record = stage_dir(settings_in(folder), "grpo").served
        for _ in open_servers(folder, server.url):
            kept = record.read_text()
        server.adapters |= {f"{json.loads(kept)['prefix']}-v7": "", "other-v7": ""}
        record.write_text(kept)  # as a kill leaves it
        list(open_servers(folder, server.url))
    assert list(server.adapters) == ["other-v7"]


def test_a_server_that_takes_shorter_prompts_is_refused(folder: Path) -> None:
    short = StandIn(lambda name, body: ([], [], "stop"), max_model_len=100)
    with short.running(), pytest.raises(UserError, match=r"100 tokens.*--max-model-len 420"):
        list(open_servers(folder, short.url))


def test_one_place_chooses_what_samples(folder: Path, tmp_path: Path) -> None:
    python = f"--rollouts.python={stand_in_python(tmp_path, (1,))}"

    def chosen(*overrides: str) -> str:
        return choose_backend(settings_in(folder, *overrides))

    assert chosen() == "transformers" and chosen(python) == "transformers", "no GPU here"
    assert chosen(f"--rollouts.servers=[{NOWHERE}]") == "vllm"
    assert (
        chosen("--rollouts.start=1", python) == chosen("--rollouts.backend=vllm", python) == "vllm"
    )
    assert chosen("--rollouts.backend=transformers") == "transformers"
    assert chosen("--run.deterministic=true") == "transformers"
    with pytest.raises(UserError, match="make setup-vllm"):
        chosen("--rollouts.backend=vllm")


def test_servers_have_kernels_of_their_own_so_tokens_are_weighed(folder: Path) -> None:
    settings = settings_in(folder)
    assert choose_form(settings, backend="vllm") == "token_truncate"
    assert choose_form(settings, backend="transformers") == "off"
