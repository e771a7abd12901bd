"""A small server that speaks the routes of vLLM's that a run uses, refusals included, for tests.

In this process, with a model of ours behind it (`serve_model`), or as a file in the place of the
interpreter that has vLLM (`stand_in_python`), with one answer to everything.
"""

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Complete = Callable[[str, dict[str, Any]], tuple[list[int], list[float], str]]


class StandIn(ThreadingHTTPServer):
    """Serves what `complete` returns for the name of an adapter and a request.

    Attributes:
        adapters: Folders of what is loaded now, by name.
        events: Loads, unloads, sleeps and awakenings, in order.
        requests: Bodies of `/v1/completions`.
        fails: Beginnings of routes that answer 500; set from other processes by `/fail`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        complete: Complete,
        *,
        port: int = 0,
        load: Callable[[str, str], None] = lambda name, folder: None,
        max_model_len: int = 4096,
        base: str = "base",
    ) -> None:
        super().__init__(("127.0.0.1", port), _Routes)
        self.complete, self.load, self.max_model_len = complete, load, max_model_len
        self.base = base
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.adapters: dict[str, str] = {}
        self.events: list[tuple[str, str]] = []
        self.requests: list[dict[str, Any]] = []
        self.sleeps = False
        self.fails: list[str] = []

    @contextlib.contextmanager
    def running(self) -> Iterator["StandIn"]:
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and content, as vLLM 0.32 does."""
        name = body.get("lora_name", "")
        match path:
            case "/fail":
                self.fails = body["routes"]
                return 200, {}
            case _ if any(path.startswith(each) for each in self.fails):
                return 500, "EngineDeadError"
            case "/health":
                return 200, {"pid": os.getpid()}
            case "/v1/models":
                adapters = [{"id": each, "parent": self.base} for each in self.adapters]
                base = {"id": self.base, "parent": None, "max_model_len": self.max_model_len}
                return 200, {"data": [base, *adapters]}
            case "/v1/load_lora_adapter" if name in self.adapters:
                return 400, f"The lora adapter '{name}' has already been loaded."
            case "/v1/load_lora_adapter" if not Path(body["lora_path"]).is_dir():
                return 404, f"No adapter found for {name}: {body['lora_path']}"
            case "/v1/load_lora_adapter":
                self.load(name, body["lora_path"])
                self.adapters[name] = body["lora_path"]
                self.events.append(("load", name))
                return 200, "Success"
            case "/v1/unload_lora_adapter" if name not in self.adapters:
                return 404, f"The lora adapter '{name}' cannot be found."
            case "/v1/unload_lora_adapter":
                del self.adapters[name]
                self.events.append(("unload", name))
                return 200, "Success"
            case "/sleep" | "/wake_up":
                self.sleeps = path == "/sleep"
                self.events.append((path[1:], ""))
                return 200, {}
            case "/is_sleeping":
                return 200, {"is_sleeping": self.sleeps}
            case "/v1/completions" if self.sleeps:
                return 500, "asleep"
            case "/v1/completions" if body["model"] not in (self.base, *self.adapters):
                return 404, f"The model `{body['model']}` does not exist."
            case "/v1/completions":
                self.requests.append(body)
                ids, logps, finish = self.complete(body["model"], body)
                echo = {"prompt_token_ids": body["prompt"], "token_ids": ids}
                choice = {"finish_reason": finish, "logprobs": {"token_logprobs": logps}}
                return 200, {"choices": [{**choice, **echo}]}
        return 404, "Not Found"


class _Routes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._reply(json.loads(self.rfile.read(length) or b"{}"))

    def _reply(self, body: dict[str, Any]) -> None:
        status, content = self.server.answer(self.path.partition("?")[0], body)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""


def serve_model(base: Any, **options: Any) -> StandIn:
    """Return a server, not yet running, of a model and of the adapters that it is told to load."""
    import torch
    from peft import PeftModel

    lock = threading.Lock()
    held: list[Any] = [base]

    def load(name: str, folder: str) -> None:
        with lock:
            if isinstance(held[0], PeftModel):
                held[0].load_adapter(folder, adapter_name=name)
            else:
                held[0] = PeftModel.from_pretrained(base, folder, adapter_name=name)
            held[0].eval()

    @torch.inference_mode()
    def complete(name: str, body: dict[str, Any]) -> tuple[list[int], list[float], str]:
        with lock:
            held[0].set_adapter(name)
            generator = torch.Generator().manual_seed(body["seed"])
            ids, logps, cache = list(body["prompt"]), list[float](), None
            fresh = ids
            while len(logps) < body["max_tokens"]:
                out = held[0](torch.tensor([fresh]), past_key_values=cache, use_cache=True)
                cache, logits_V = out.past_key_values, out.logits[0, -1].float()
                logps_V = torch.log_softmax(logits_V / (body["temperature"] or 1.0), -1)
                picked = logits_V.argmax(-1, keepdim=True)
                if body["temperature"]:
                    picked = torch.multinomial(logps_V.exp(), 1, generator=generator)
                fresh = [int(picked)]
                ids, logps = [*ids, *fresh], [*logps, float(logps_V[picked])]
                if fresh[0] in body["stop_token_ids"]:
                    return ids[len(body["prompt"]) :], logps, "stop"
            return ids[len(body["prompt"]) :], logps, "length"

    return StandIn(complete, load=load, **options)


def stand_in_python(folder: Path, answer: tuple[int, ...], *, delay_s: float = 0.0) -> Path:
    """Write a program that takes the place of the interpreter that has vLLM."""
    program = folder / "python"
    ids = ",".join(map(str, answer))
    line = f'exec "{sys.executable}" -S "{__file__}" --answer={ids} --delay={delay_s} "$@"'
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    return program


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answer")
    parser.add_argument("--delay", type=float)
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name", dest="base", default="base")
    parser.add_argument("-m", dest="module")
    given, _ = parser.parse_known_args(argv)
    if given.module is None:  # asked whether it has vLLM
        return
    assert given.module == "vllm.entrypoints.openai.api_server"
    print("started with", *argv[argv.index("-m") + 2 :], file=sys.stderr, flush=True)
    ids = [int(each) for each in given.answer.split(",")]

    def complete(name: str, body: dict[str, Any]) -> tuple[list[int], list[float], str]:
        time.sleep(given.delay)
        return ids, [-0.5] * len(ids), "stop"

    StandIn(complete, port=given.port, base=given.base).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
