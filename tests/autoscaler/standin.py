"""A stand-in for an engine: a real HTTP server process with an engine's flags, that misbehaves when told to.

Flags beside an engine's own: how it starts and ends. `POST /crash` and `POST /hang` misbehave later.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WORDS = ("Hello", " from", " the", " stand-in", ".")


class State:
    """What the server is doing."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.ready = threading.Event()
        self.hanging = threading.Event()
        self.draining = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """Health, one answer to every chat, and orders to misbehave."""

    protocol_version = "HTTP/1.1"
    state: State

    def log_request(self, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        """Health."""
        self._maybe_hang()
        ready = self.state.ready.is_set() and not self.state.draining.is_set()
        self._answer(503 if self.path == "/health/ready" and not ready else 200, {"pid": os.getpid()})

    def do_POST(self) -> None:
        """A chat, or an order."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/crash":
            sys.stderr.write("told to crash\n")
            os._exit(3)
        if self.path == "/hang":
            self.state.hanging.set()
        self._maybe_hang()
        request = json.loads(body)
        if request.get("stream"):
            self._stream(request)
        else:
            self._answer(200, {"model": request["model"], "pid": os.getpid(), "choices": []})

    def _stream(self, request: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for word in WORDS:
            chunk = {"object": "chat.completion.chunk", "model": request["model"], "id": "x", "created": 1}
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            self.wfile.write(b"data: " + json.dumps(chunk | {"choices": [choice]}).encode() + b"\n\n")
            time.sleep(self.state.options.word_s)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _maybe_hang(self) -> None:
        if self.state.hanging.is_set():
            time.sleep(3600)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve until SIGTERM, then finish what runs."""
    parser = argparse.ArgumentParser()
    for flag, default in (("--host", "127.0.0.1"), ("--model_name", ""), ("--model_id", ""), ("--pids", "")):
        parser.add_argument(flag, default=default)
    parser.add_argument("--port", type=int, required=True)
    for flag in ("--start_s", "--crash_after_s", "--word_s"):
        parser.add_argument(flag, type=float, default=0.0)
    for flag in ("--crash_at_start", "--ignore_term", "--child", "--stray_child"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    _note_pid(options, os.getpid())
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.child or options.stray_child:
        command = [sys.executable, "-c", "import time; time.sleep(3600)"]
        _note_pid(options, subprocess.Popen(command, start_new_session=options.stray_child).pid)
    if options.crash_at_start:
        sys.stderr.write("line one\nthe weights are not there\n")
        sys.exit(4)
    _serve(State(options))


def _serve(state: State) -> None:
    handler = type("Bound", (Handler,), {"state": state})
    server = ThreadingHTTPServer((state.options.host, state.options.port), handler)
    server.daemon_threads = False

    def finish(*_: object) -> None:
        state.draining.set()
        threading.Thread(target=server.shutdown, daemon=True).start()

    if not state.options.ignore_term:
        signal.signal(signal.SIGTERM, finish)
    _later(state.options.start_s, state.ready.set)
    if state.options.crash_after_s:
        _later(state.options.crash_after_s, lambda: os._exit(5))
    server.serve_forever(poll_interval=0.02)
    server.server_close()


def _later(delay_s: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(delay_s, act)
    timer.daemon = True  # it must not hold up the end
    timer.start()


def _note_pid(options: argparse.Namespace, pid: int) -> None:
    if options.pids:
        with Path(options.pids).open("a") as file:
            file.write(f"{pid}\n")


if __name__ == "__main__":
    main()
