"""Starts vLLM servers on this machine, watches them, and ends them however the run ends.

Each has a keeper (`train/servers/keeper.py`), which ends it once the trainer is gone, `kill -9`
included. A server that dies is started anew once, on the same port; where the GPU is shared not
while the policy trains, since it would take the trainer's memory. Only the main process of a run
starts any; the others know from files beside their logs which ones are given up.

Not covered: a server that lives and does not answer is not replaced.
"""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from envs.errors import UserError
from train.servers.client import ServerLost, describe_base, is_ready
from train.servers.port import RELEASE_LIMIT_S, check_free, claimed
from train.stages.progress import Progress
from train.stages.stage_log import say

START_LIMIT_S = 1200.0  # to read weights from a slow disk and capture CUDA graphs
_END_LIMIT_S = 15.0  # for keepers; they themselves give a server 10 s
_RELEASE_LIMIT_S = 5.0  # for the rest of a server that has died to let go of its port
_LOOK_EVERY_S = 0.5
_SHOWN_LINES = 3  # of a log
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has kernels for; it takes 1 too
# The launcher's, which vLLM would take for its own.
_UNSET = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "OMP_NUM_THREADS", "PYTHONPATH"),
)
_KEEPER = Path(__file__).with_name("keeper.py")


@dataclass(frozen=True)
class ServerPlan:
    """What is started, the same for all.

    Attributes:
        python: Interpreter of an environment that has vLLM.
        base: Folder or hub id of the base.
        name: Of the base on the servers: no other run's servers have it.
        tokenizer: Folder of the run's.
        dtype: In which the base is held.
        window_tokens: Longest prompt with its sample.
        lora_rank: Of the adapters.
        max_rows: Most episodes decoded at once.
        memory_share: Of the GPU's memory; None without a GPU.
        sleeps: Gives its memory back while the policy trains.
        further: Arguments of the command line behind these.
    """

    python: str
    base: str
    name: str
    tokenizer: str
    dtype: str
    window_tokens: int
    lora_rank: int
    max_rows: int
    memory_share: float | None = None
    sleeps: bool = False
    further: Sequence[str] = ()

    def command(self, port: int) -> list[str]:
        """Return the command line of a server."""
        options = {
            "--model": self.base,
            "--served-model-name": self.name,
            "--tokenizer": self.tokenizer,
            "--host": "127.0.0.1",
            "--port": port,
            "--dtype": self.dtype,
            "--max-model-len": self.window_tokens,
            "--max-num-seqs": self.max_rows,
            "--max-loras": 2,  # the next version is loaded before the last one is unloaded
            "--max-lora-rank": next(rank for rank in _RANKS if rank >= self.lora_rank),
            "--generation-config": "vllm",  # not the model's own: requests say everything
            "--logprobs-mode": "processed_logprobs",
        }
        if self.memory_share is not None:
            options["--gpu-memory-utilization"] = self.memory_share
        flags = ["--enable-lora", "--disable-uvicorn-access-log"]
        flags += ["--enable-sleep-mode"] if self.sleeps else []
        words = [str(word) for pair in options.items() for word in pair]
        module = "vllm.entrypoints.openai.api_server"  # the `vllm` command may lack its metadata
        return [self.python, "-m", module, *words, *flags, *self.further]

    def environment(self) -> dict[str, str]:
        """Return the variables that a server needs."""
        needed = {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_HOST_IP": "127.0.0.1",  # of a server's own processes
        }
        return needed | ({"VLLM_SERVER_DEV_MODE": "1"} if self.sleeps else {})


class StartedServers:
    """Servers of this process.

    Args:
        plan: As the attribute.
        port: Of the first; the others have the next ones.
        gpus: Each server's GPU among those that this process sees; None: it has none.
        folder: Where their logs go.

    Attributes:
        plan: What each of them is.
        urls: In the order of `gpus`.
    """

    def __init__(
        self, plan: ServerPlan, *, port: int, gpus: Sequence[int | None], folder: Path
    ) -> None:
        self.plan = plan
        self._servers = [
            _Server(plan, port + at, gpu, folder / f"vllm_{at}.txt") for at, gpu in enumerate(gpus)
        ]
        self.urls = [server.url for server in self._servers]
        self._may_start = threading.Event()
        self._may_start.set()
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._replace_dead, daemon=True)

    @property
    def given_up(self) -> set[str]:
        """Those that died, and so did their replacement; known in all processes of the run."""
        return {server.url for server in self._servers if server.end.exists()}

    @contextlib.contextmanager
    def running(self, *, release_limit_s: float = RELEASE_LIMIT_S) -> Iterator[None]:
        """Start them; end them at the end. `wait_ready` waits until they answer.

        Raises:
            UserError: The port of one is in use.
        """
        with contextlib.ExitStack() as claims:
            for server in self._servers:
                claims.enter_context(claimed(server.port, limit_s=release_limit_s))
            try:
                for server in self._servers:
                    server.end.unlink(missing_ok=True)
                    server.start()
                yield
            finally:
                self._closing.set()
                if self._watch.is_alive():
                    self._watch.join()
                _end(self._servers)

    def wait_ready(self, *, limit_s: float = START_LIMIT_S) -> None:
        """Wait until all answer, and say how far that is; from then on dead ones are replaced.

        Raises:
            UserError: One ended, or does not answer in time, or another one does in its place.
        """
        waiting = list(self._servers)
        until = time.monotonic() + limit_s
        with Progress("vLLM servers", total=len(waiting), unit="ready") as progress:
            while waiting:
                for server in [each for each in waiting if not each.lives()]:
                    raise UserError(
                        f"a vLLM server ended while it started ({server.ending()})",
                        got=server.last_lines(),
                        remedy=f"see {server.log}; docs/vllm.md says what it needs",
                    )
                if time.monotonic() > until:
                    raise UserError(
                        f"a vLLM server does not answer after {limit_s:.0f} s",
                        got=waiting[0].last_lines(),
                        remedy=f"see {waiting[0].log}",
                    )
                time.sleep(_LOOK_EVERY_S)
                waiting = [server for server in waiting if not server.answers()]
                progress.update(len(self._servers) - len(waiting))
        self._watch.start()

    def runs(self, url: str) -> bool:
        """Tell whether a server's process is there, whether it answers or not."""
        return any(server.lives() for server in self._servers if server.url == url)

    def hold(self) -> None:
        """Start nothing from now on: others need the memory."""
        self._may_start.clear()

    def go_on(self) -> None:
        """Undo `hold`."""
        self._may_start.set()

    def _replace_dead(self) -> None:
        while not self._closing.wait(_LOOK_EVERY_S):
            for server in self._servers:
                if server.lives() or server.url in self.given_up:
                    continue
                if server.num_starts > 1:
                    server.end.touch()
                    say(f"{server.url} ended again and is not replaced; see {server.log}")
                elif self._may_start.is_set():
                    self._replace(server)

    def _replace(self, server: "_Server") -> None:
        try:
            check_free(server.port, limit_s=_RELEASE_LIMIT_S)
        except UserError as error:
            server.end.touch()
            say(f"{server.url} ended ({server.ending()}) and is not replaced: {error}")
        else:
            say(f"{server.url} ended ({server.ending()}); another is started")
            server.start()


class _Server:
    """One server, seen through its keeper."""

    def __init__(self, plan: ServerPlan, port: int, gpu: int | None, log: Path) -> None:
        self.url, self.log, self.num_starts = f"http://127.0.0.1:{port}", log, 0
        self.port, self.end = port, log.with_suffix(".given_up")
        self._plan, self._gpu = plan, gpu
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and say nothing of whether it answers."""
        self.end_soon()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        options = [f"--unset={name}" for name in _UNSET]
        options += [f"--set={name}={value}" for name, value in self._plan.environment().items()]
        options += [] if self._gpu is None else [f"--gpu={self._gpu}"]
        command = [sys.executable, "-s", str(_KEEPER), *options, "--"]
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [*command, *self._plan.command(self.port)],
                stdin=subprocess.PIPE,  # closed when this process ends, however it does
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is the trainer's to handle
            )
        self.num_starts += 1

    def answers(self) -> bool:
        """Tell whether it answers.

        Raises:
            UserError: Another one does.
        """
        try:
            found = describe_base(self.url)["id"] if is_ready(self.url) else None
        except ServerLost:
            return False
        if found not in (None, self._plan.name):
            raise UserError(
                "another server answers on the port of a vLLM server",
                got=f"{self.url} serves {found}",
                remedy="end it, or set rollouts.port to the first of a row of free ones",
            )
        return found is not None

    def lives(self) -> bool:
        """Tell whether it runs."""
        return self._keeper is not None and self._keeper.poll() is None

    def ending(self) -> str:
        """Say how it ended."""
        return f"exit status {self._keeper.poll() if self._keeper else None}"

    def last_lines(self) -> str:
        """Return the end of its log."""
        lines = self.log.read_text("utf-8", errors="replace").strip().split("\n")
        return " / ".join(line.strip()[:200] for line in lines[-_SHOWN_LINES:])

    def end_soon(self) -> None:
        """Tell its keeper to end it."""
        if self._keeper is not None:
            pipe: IO[bytes] | None = self._keeper.stdin
            if pipe is not None:
                pipe.close()

    def bury(self, *, until: float) -> None:
        """Wait until it has ended."""
        if self._keeper is not None:
            try:
                self._keeper.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._keeper.kill()  # the kernel then kills the server
                self._keeper.wait()


def _end(servers: Sequence[_Server]) -> None:
    for server in servers:
        server.end_soon()
    until = time.monotonic() + _END_LIMIT_S
    for server in servers:
        server.bury(until=until)


def find_python(named: str | None) -> str:
    """Return the interpreter that starts servers."""
    return str(Path(named).expanduser()) if named else sys.executable


def has_vllm(python: str) -> bool:
    """Tell whether an interpreter's environment has vLLM."""
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        return (
            subprocess.run([python, "-c", look], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def choose_gpus(
    *, wanted: int | None, given: Sequence[int] | None, num_gpus: int, num_processes: int
) -> tuple[list[int | None], bool]:
    """Return each server's GPU (None: without), and whether processes train on one of them.

    Processes train on the first GPUs, one each. Servers get those behind them; where these are too
    few, or none, the first ones.

    Args:
        wanted: Servers to start; None: as many as suit.
        given: The GPUs to use, at least one, each once; None: as described.
        num_gpus: Those of this machine.
        num_processes: Those of this machine that train.

    Raises:
        UserError: There are not so many GPUs.
    """
    if not num_gpus:
        return [None] * (wanted or 1), False
    free = list(range(num_processes, num_gpus))
    gpus = list(given) if given is not None else free
    if given is None and (not free or len(free) < (wanted or 1)):
        gpus = list(range(min(num_processes, num_gpus) if wanted is None else wanted))
    if wanted is not None and given is None:
        gpus = gpus[:wanted]
    if missing := [gpu for gpu in gpus if gpu >= num_gpus]:
        raise UserError(
            "a vLLM server has no GPU",
            got=f"GPU {missing[0]} of {num_gpus}",
            remedy="set rollouts.start to the number of GPUs, or less, and rollouts.gpus to theirs",
        )
    return list(gpus), any(gpu < num_processes for gpu in gpus)
