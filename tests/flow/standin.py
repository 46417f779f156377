"""A scripted engine: an HTTP server whose behaviour is chosen by the model's name, and which keeps what it was sent."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL_DELTAS: tuple[tuple[dict[str, Any], str | None], ...] = (
    ({"role": "assistant", "content": None}, None),
    ({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather"}}]}, None),
    ({"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]}, None),
    ({"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]}, None),
    ({}, "tool_calls"),
)
WORD_DELTAS = (({"role": "assistant", "content": ""}, None), ({"content": "One"}, None), ({"content": " two"}, None))
MODELS = ("busy-once", "busy", "refusing", "slow", "breaks", "cut", "tools", "words")


@dataclass
class Seen:
    """A request: when it came (monotonic, seconds), and what it was."""

    at_s: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, decoded."""
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


@dataclass
class Standin:
    """The server's address and all it has seen. `hung_up` counts clients that left a slow answer."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    hung_up: int = 0
    waiting: int = 0

    def of(self, model: str) -> list[Seen]:
        """The requests for one model."""
        return [seen for seen in list(self.seen) if seen.json["model"] == model]


class Handler(BaseHTTPRequestHandler):
    """Answers by the model's name."""

    protocol_version = "HTTP/1.1"
    standin: Standin

    def log_request(self, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        """The gateway's probe."""
        self.answer(200, {})

    def do_POST(self) -> None:
        """A completion, in a way."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(time.monotonic(), self.path, headers, body)
        self.standin.seen.append(seen)
        act: Callable[[Seen], None] = getattr(self, "act_" + seen.json["model"].replace("-", "_"))
        act(seen)

    def act_words(self, seen: Seen) -> None:
        """Two words."""
        if seen.json.get("stream"):
            self.stream([*WORD_DELTAS, ({}, "stop")])
            self.write(b"data: [DONE]\n\n")
        else:
            self.answer(200, completion({"role": "assistant", "content": "One two"}, "stop"))

    def act_busy_once(self, seen: Seen) -> None:
        """503 to the first of all requests."""
        if len(self.standin.of("busy-once")) == 1:
            self.answer(503, error("not now", "overloaded"), ("Retry-After", "1"))
        else:
            self.act_words(seen)

    def act_busy(self, _: Seen) -> None:
        """429 to all."""
        self.answer(429, error("come back later", "overloaded"), ("Retry-After", "1"))

    def act_refusing(self, _: Seen) -> None:
        """An error only this engine has."""
        self.answer(422, error("no such thing here", "odd_error", param="thing", code="odd"))

    def act_slow(self, _: Seen) -> None:
        """Nothing, until the client has gone."""
        self.standin.waiting += 1
        assert self.connection.recv(1) == b""
        self.standin.hung_up += 1
        self.close_connection = True

    def act_breaks(self, _: Seen) -> None:
        """An error event inside a stream."""
        self.stream(WORD_DELTAS)
        self.write(b"data: " + json.dumps(error("the weights caught fire", "server_error")).encode() + b"\n\n")

    def act_cut(self, _: Seen) -> None:
        """A stream that ends before its end."""
        self.stream(WORD_DELTAS, chunked=True)
        self.connection.shutdown(2)

    def act_tools(self, seen: Seen) -> None:
        """A tool call."""
        if seen.json.get("stream"):
            self.stream(TOOL_DELTAS)
            self.write(b"data: [DONE]\n\n")
        else:
            self.answer(
                200, completion({"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}, "tool_calls")
            )

    def stream(self, deltas: Sequence[tuple[dict[str, Any], str | None]], *, chunked: bool = False) -> None:
        """The beginning of a stream; it ends with the connection, or (`chunked`) with a last chunk."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        self.end_headers()
        for delta, finish in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            event = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            data = b"data: " + json.dumps(event).encode() + b"\n\n"
            self.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        self.close_connection = True

    def write(self, data: bytes) -> None:
        """Send, now."""
        self.wfile.write(data)
        self.wfile.flush()

    def answer(self, status: int, body: dict[str, Any], *headers: tuple[str, str]) -> None:
        """A whole answer."""
        data = json.dumps(body).encode()
        self.send_response(status)
        for header in (("Content-Type", "application/json"), ("Content-Length", str(len(data))), *headers):
            self.send_header(*header)
        self.end_headers()
        self.write(data)


def completion(message: dict[str, Any], finish: str) -> dict[str, Any]:
    """A chat completion with one choice."""
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def error(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An OpenAI-shaped error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@contextmanager
def standin() -> Iterator[Standin]:
    """A stand-in that listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Standin(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Bound", (Handler,), {"standin": found})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
