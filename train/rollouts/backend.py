"""What samples the episodes of GRPO: this process itself, or vLLM servers. Chosen here alone.

    with open_backend(settings, stage, processes) as acting:
        with acting(trainer) as policy:  # in all processes
            episodes = runner.play_model(requests, policy, policy="grpo")

What `acting` yields is a model with all its weights, or a `ServedAdapter`.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, get_int_from_env

from envs.errors import UserError
from envs.rendering import ChatFormat
from train.config.settings import Settings
from train.models.distributed import on_main, whole_weights
from train.models.model import base_source, run_tokenizer
from train.rollouts.concurrency import Sampler
from train.rollouts.engine import make_engine
from train.rollouts.vllm import ServedAdapter, VllmSampler, VllmServers
from train.servers.adapters import AdapterFolder
from train.servers.client import Sampling, ServerLost, describe_base
from train.servers.start import (
    START_LIMIT_S,
    ServerPlan,
    StartedServers,
    choose_gpus,
    find_python,
    has_vllm,
)
from train.stages.run_dir import StageDir

Backend = Literal["transformers", "vllm"]
Acting = Callable[[Any], AbstractContextManager[Any]]
"""Takes the trainer, yields what episodes are played with; called in all processes."""

ALONE, SHARED = 0.9, 0.5
"""Shares of a GPU's memory that a server takes, beside a trainer half; vLLM's own is 0.92."""


def choose_backend(settings: Settings) -> Backend:
    """Return what samples in GRPO.

    Raises:
        UserError: vLLM is asked for and not there.
    """
    rollouts = settings.rollouts
    is_wanted = rollouts.backend == "vllm" or bool(rollouts.servers) or rollouts.start is not None
    if rollouts.backend == "transformers" or settings.run.deterministic:
        return "transformers"
    if rollouts.servers:
        return "vllm"
    if not is_wanted and (not torch.cuda.is_available() or settings.model.load_in_4bit):
        return "transformers"
    python = find_python(rollouts.python)
    if has_vllm(python):
        return "vllm"
    if is_wanted or rollouts.python:
        raise UserError(
            "vLLM servers cannot be started: their environment has no vLLM",
            got=python,
            remedy="make setup-vllm, and set rollouts.python to the python in it; or set "
            "rollouts.backend to transformers",
        )
    return "transformers"


@contextmanager
def open_backend(settings: Settings, stage: StageDir) -> Iterator[Acting]:
    """Start what samples, if it has to be; end it at the end. To be called in all processes.

    Raises:
        UserError: Servers do not start, or are not there, or do not fit.
    """
    if choose_backend(settings) == "transformers":
        yield whole_weights
        return
    rollouts, adapters = settings.rollouts, name_adapters(settings, stage)
    if rollouts.servers:
        on_main(partial(_check_servers, settings))
        adapters.begin(rollouts.servers)
        with _closed(VllmServers(rollouts.servers, adapters=adapters)) as servers:
            yield servers.acting
        return
    started, sleeps = plan_servers(settings, stage, name=f"{adapters.prefix}-base")
    with ExitStack() as ending:
        on_main(partial(_start, started, ending))
        adapters.begin([])
        servers = VllmServers(
            started.urls, adapters=adapters, started=started, patience_s=START_LIMIT_S, sleep=sleeps
        )
        with _closed(servers):
            yield servers.acting


def _start(started: StartedServers, ending: ExitStack) -> None:
    """Start servers that end with `ending`, and wait until they answer."""
    ending.enter_context(started.running())
    started.wait_ready()


def name_adapters(settings: Settings, stage: StageDir) -> AdapterFolder:
    """Return where versions of the adapter go, with a word in their names that no other run has."""
    named = settings.rollouts.adapter_dir
    folder = Path(named).expanduser() if named else stage.path / "served"
    word = [secrets.token_hex(3)]
    broadcast_object_list(word)
    prefix = f"{settings.run.name}-{word[0]}"
    is_main = PartialState().is_main_process
    return AdapterFolder(folder.absolute(), prefix, is_main=is_main, record=stage.served)


def make_sampler(
    model: Any, chat: ChatFormat, settings: Settings, *, greedy: bool = False
) -> Sampler:
    """Return what samples the turns of episodes from a model, or from servers."""
    if not isinstance(model, ServedAdapter):
        return make_engine(model, chat, settings, greedy=greedy)
    sampling = Sampling(
        stop_ids=tuple(chat.stop_ids),
        max_new_tokens=settings.context.max_new_tokens,
        temperature=0.0 if greedy else 1.0,
    )
    per_process = -(-len(model.urls) // PartialState().num_processes)
    return VllmSampler(model, sampling, max_rows=settings.grpo.generation_batch * per_process)


def plan_servers(
    settings: Settings, stage: StageDir, *, name: str = "base"
) -> tuple[StartedServers, bool]:
    """Return the servers to start, and whether they sleep while the policy trains.

    Args:
        settings: The experiment.
        stage: Its folder takes their logs.
        name: Of the base on them.

    Raises:
        UserError: The run has other machines too, or there are not so many GPUs.
    """
    rollouts, num_processes = settings.rollouts, PartialState().num_processes
    if get_int_from_env(["LOCAL_WORLD_SIZE"], num_processes) != num_processes:
        raise UserError(
            "vLLM servers are started on one machine only",
            got=f"{num_processes} processes on several",
            remedy="start them yourself, as docs/vllm.md says, and name them in rollouts.servers",
        )
    gpus, is_shared = choose_gpus(
        wanted=rollouts.start,
        given=rollouts.gpus,
        num_gpus=torch.cuda.device_count(),
        num_processes=num_processes,
    )
    share = SHARED if is_shared else ALONE
    plan = ServerPlan(
        python=find_python(rollouts.python),
        base=base_source(settings),
        name=name,
        tokenizer=str(run_tokenizer(settings).absolute()),
        dtype=settings.model.dtype,
        window_tokens=settings.largest_window,
        lora_rank=settings.model.lora_rank,
        max_rows=settings.grpo.generation_batch,
        memory_share=None if gpus[0] is None else share,
        sleeps=is_shared,
        further=rollouts.server_args,
    )
    return StartedServers(plan, port=rollouts.port, gpus=gpus, folder=stage.path), is_shared


@contextmanager
def _closed(servers: VllmServers) -> Iterator[VllmServers]:
    try:
        yield servers
    finally:
        servers.close()


def _check_servers(settings: Settings) -> None:
    """Refuse servers that are not there, or would cut the longest views.

    Raises:
        UserError: See above.
    """
    window = settings.largest_window
    for url in settings.rollouts.servers:
        try:
            most = describe_base(url).get("max_model_len") or window
        except (ServerLost, ValueError, LookupError, TypeError) as error:
            raise UserError(
                "a server of rollouts.servers does not answer as vLLM does",
                got=f"{url}: {error}",
                remedy="start it as docs/vllm.md says",
            ) from error
        if most < window:
            raise UserError(
                "a server of rollouts.servers takes shorter prompts than the largest window",
                got=f"{url}: {most} tokens, context.window_tokens {window}",
                remedy=f"start it with --max-model-len {window}",
            )
