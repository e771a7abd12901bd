"""A chat server on loopback that speaks OpenAI's routes, for tests: answers are a function's."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Messages = list[dict[str, str]]


@dataclass
class ChatServer:
    """What it has been asked, and what it says.

    Attributes:
        answer: From the messages of a request to a message.
        statuses: Codes of the next answers; where there are none left, 200.
        usage: What it tells of tokens; None tells nothing.
        retry_after: What it says beside a failure.
        models: Those that it has.
        key: Whom it serves.
        seen: Bodies of all requests.
        local: Of each thread that answers.
    """

    answer: Callable[[Messages], dict[str, Any]]
    statuses: list[int] = field(default_factory=list)
    usage: dict[str, int] | None = None
    retry_after: str | None = None
    models: list[str] = field(default_factory=lambda: ["m/gold"])
    key: str | None = None
    finish: str = "stop"
    seen: list[dict[str, Any]] = field(default_factory=list)
    local: Any = field(default_factory=threading.local)
    url: str = ""

    @property
    def asked(self) -> dict[str, Any]:
        """The request that this thread is answering."""
        return self.local.body  # type: ignore[no-any-return]

    def reply(self, path: str, key: str | None, body: bytes) -> tuple[int, Any]:
        """Return status and content of an answer."""
        if self.key and key != f"Bearer {self.key}":
            return 401, {"error": "no such key"}
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in self.models]}
        asked = json.loads(body)
        self.seen.append(asked)
        self.local.body = asked
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return status, {"error": "not now"}
        message = {"role": "assistant", **self.answer(asked["messages"])}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return 200, {"choices": [choice], "usage": self.usage}


@contextmanager
def serve(server: ChatServer) -> Iterator[ChatServer]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(b"")

        def do_POST(self) -> None:
            self.answer(self.rfile.read(int(self.headers["Content-Length"])))

        def answer(self, body: bytes) -> None:
            status, content = server.reply(self.path, self.headers["Authorization"], body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            if status != 200 and server.retry_after:
                self.send_header("Retry-After", server.retry_after)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
