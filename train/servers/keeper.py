"""Keeps one server: starts it, ends it and all that it started when the trainer is gone.

Run as a plain file by the trainer, with a pipe as standard input that only the trainer holds open:

    python keeper.py --gpu 3 --unset RANK -- python3 -m vllm.entrypoints.openai.api_server ...

The pipe closes however the trainer ends, `kill -9` included. The server has a process group of its
own; where it dies, the rest of its group is ended too, lest an engine without a server keeps a GPU.
Needs the standard library only.

Not covered: a server that leaves its process group. Tests: tests/train/servers/test_start.py.
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PATIENCE_S = 10.0  # for a server to end by itself
_LOOK_EVERY_S = 0.2


def main(argv: list[str]) -> int:
    """Run the command until it ends, or standard input does; returns its exit status."""
    at = argv.index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", type=int)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--unset", action="append", default=[])
    given = parser.parse_args(argv[:at])
    for name in given.unset:
        os.environ.pop(name, None)
    os.environ.update(dict(pair.split("=", 1) for pair in given.set))
    if given.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = pick_gpu(given.gpu)
    for number in (signal.SIGINT, signal.SIGTERM):  # the trainer's to handle; it closes the pipe
        signal.signal(number, signal.SIG_IGN)
    server = subprocess.Popen(
        argv[at + 1 :], stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_begin
    )
    while server.poll() is None:
        if select.select([sys.stdin], [], [], _LOOK_EVERY_S)[0] and not os.read(0, 1024):
            _signal_group(server.pid, signal.SIGTERM)
            _wait(server)
            break
    _signal_group(server.pid, signal.SIGKILL)
    status = server.wait()
    return 128 - status if status < 0 else status  # as shells count signals


def pick_gpu(number: int) -> str:
    """Return the name of the trainer's GPU `number` for `CUDA_VISIBLE_DEVICES`."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[number] if visible else str(number)


def _begin() -> None:
    """Let the kernel kill the server if this process is; give signals back to it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _wait(server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _PATIENCE_S
    while server.poll() is None and time.monotonic() < until:
        time.sleep(_LOOK_EVERY_S / 4)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody is left
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
