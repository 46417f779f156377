"""A real gateway before the suspicious engine, on a thread of its own, for tests that speak through raw sockets."""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import uvloop

from gateway.config import GatewaySettings, settings_of
from gateway.server import GatewayServer
from tests.gateway.edge_engine import EdgeEngine
from tests.gateway.edge_wire import Wire

T = TypeVar("T")
MODEL = "m"
PATIENCE_S = 20.0


class _Complaints(logging.Handler):
    """Keeps what nobody should have to log: errors, and anything with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.texts.append(logging.Formatter().format(record))


class Rig:
    """Gateway and engine in one loop. `log`: the gateway's access log, decoded."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop], values: dict[str, Any]) -> None:
        self.loop = new_loop()
        self._values = values
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._lines: list[bytes] = []
        self.complaints = _Complaints()
        self.surprises: list[str] = []

    def start(self) -> None:
        """Returns when the gateway serves."""
        logging.getLogger().addHandler(self.complaints)
        self.loop.set_exception_handler(lambda _, context: self.surprises.append(str(context)))
        self._thread.start()
        self.run(self._start())

    async def _start(self) -> None:
        self.engine = EdgeEngine()
        await self.engine.start()
        self.settings = edge_settings(self.engine.port, **self._values)
        self.server = GatewayServer(self.settings, write_log=self._lines.append)
        await self.server.start()
        self.port = self.server.port

    def stop(self) -> None:
        """Everything is closed when it returns."""
        self.run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()
        logging.getLogger().removeHandler(self.complaints)

    async def _stop(self) -> None:
        await self.server.stop(0)
        await self.engine.stop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def ask(self, question: Callable[[], T]) -> T:
        """Call it in the gateway's loop."""

        async def answer() -> T:
            return question()

        return self.run(answer())

    def wire(self, *, receive_bytes: int | None = None) -> Wire:
        """A new connection to the gateway; `receive_bytes` is the size of the client's buffer in the kernel."""
        return Wire(self.port, receive_bytes=receive_bytes)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The access log so far."""
        return [json.loads(line) for batch in tuple(self._lines) for line in batch.splitlines()]

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for it, long, and fail if it does not come about."""
        until = time.monotonic() + PATIENCE_S
        while not self.ask(true):
            assert time.monotonic() < until, f"{what}: not within {PATIENCE_S} s"
            time.sleep(0.005)

    def in_flight(self) -> int:
        """Requests that any part of the gateway still counts as running."""
        app, server = self.server.app, self.server._server
        assert server is not None
        dispatcher, fleet = app._dispatcher, app._fleet
        assert dispatcher is not None
        assert fleet is not None
        return (
            len(dispatcher.active)
            + len(server.server_state.tasks)
            + sum(meter.in_flight for meter in app.meter.by_owner.values())
            + sum(endpoint.requests for endpoint in fleet.endpoints())
        )

    def connections(self) -> int:
        """Client connections the server holds."""
        server = self.server._server
        assert server is not None
        return len(server.server_state.connections)

    def check_healthy(self) -> None:
        """Nothing runs, nobody complained, and a new client is served."""
        self.wait_until(lambda: not self.in_flight() and not self.engine.running, "requests in flight are over")
        for found in (self.engine.violations, self.complaints.texts, self.surprises):
            what, found[:] = tuple(found), []
            assert not what, what
        with self.wire() as wire:
            wire.send(post(b'{"model": "m", "n": 1}'))
            assert wire.answer().status == 200

    def check_accounts(self) -> None:
        """The engine has seen the requests that the gateway accepted, each once, with the same bodies; and no other."""
        accepted = {}
        self.wait_until(lambda: len(self.log) == self._settled(), "the access log is written")
        for line in self.log:
            if line.get("attempts"):
                assert line["request_id"] not in accepted, line
                accepted[line["request_id"]] = line
        for seen in self.engine.seen:
            line = accepted[seen.request_id]
            injected = 0 if b"include_usage" not in seen.body else len('"stream_options":{"include_usage":true},')
            assert line["bytes_in"] == len(seen.body) - injected, (line, seen)
            del accepted[seen.request_id]
        # A client that hung up in time was never asked for.
        assert all(line["outcome"] == "client_closed" for line in accepted.values()), accepted

    def _settled(self) -> int:
        return sum(sum(meter.outcomes.values()) for meter in self.server.app.meter.by_owner.values())


def edge_settings(engine_port: int, **values: Any) -> GatewaySettings:
    """Settings for one model at that port; `values` are other fields."""
    model = {"name": MODEL, "endpoints": [{"url": f"http://127.0.0.1:{engine_port}"}]}
    return settings_of({"port": 0, "models": [model], "log": {"level": "warning"}, **values})


@contextlib.contextmanager
def rig_of(**values: Any) -> Iterator[Rig]:
    """A running rig; `values` are settings. Uses uvloop, as the gateway's own process does."""
    rig = Rig(uvloop.new_event_loop, values)
    rig.start()
    try:
        yield rig
    finally:
        rig.stop()


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/chat/completions", version: bytes = b"1.1") -> bytes:
    """A well-formed request."""
    lines = [b"POST %b HTTP/%b" % (path, version), b"host: edge", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
