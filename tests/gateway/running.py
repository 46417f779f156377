"""A gateway that listens, in either of the two ways it can be served, for tests to talk to."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import GatewayApp
from gateway.config import settings_of
from gateway.server import GatewayServer
from gateway.upstream.endpoint import EndpointState
from serving.routes import RouteTable
from tests.gateway.client import Client
from tests.gateway.engine import LIMIT_S, Engine

Mode = Literal["splice", "asgi"]


class _PlainUvicorn(uvicorn.Server):
    """uvicorn as it comes, save that the test keeps its signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.asked_to_stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Sooner over than the original, which looks ten times a second."""
        await self.on_tick(0)
        await self.asked_to_stop.wait()


class Gateway:
    """What a test sees of a gateway."""

    def __init__(self, app: GatewayApp, port: int, written: list[bytes]) -> None:
        self.app = app
        self.port = port
        self._written = written
        self._clients = contextlib.AsyncExitStack()

    async def client(self, **options: Any) -> Client:
        """A new connection, closed when the test ends."""
        return await self._clients.enter_async_context(await Client.to(self.port, **options))

    async def close_clients(self) -> None:
        """Hang up everywhere."""
        await self._clients.aclose()

    @property
    def log(self) -> bytes:
        """The access log as written so far."""
        return b"".join(self._written)

    async def records(self, count: int = 1) -> list[dict[str, Any]]:
        """The access log's lines, once there are `count`."""

        def written() -> bool:
            self.app._log.flush()  # sooner than it would by itself
            return self.log.count(b"\n") >= count

        await eventually(written)
        return [json.loads(line) for line in self.log.splitlines()]

    async def record(self) -> dict[str, Any]:
        """The last line of the access log, once there is one."""
        return (await self.records())[-1]

    async def metrics(self) -> str:
        """A scrape."""
        async with await Client.to(self.port) as client:
            return (await client.get("/metrics")).body.decode()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry `labels`."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(await self.metrics())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def endpoints(self) -> list[EndpointState]:
        """Its endpoints."""
        assert self.app._fleet is not None
        return list(self.app._fleet.endpoints())

    @property
    def in_flight(self) -> int:
        """Requests under way, by every count there is of them."""
        meters = sum(m.in_flight for m in self.app.meter.by_owner.values())
        assert self.app._dispatcher is not None
        at_engines = sum(e.requests + e.tokens for e in self.endpoints)
        return meters + at_engines + len(self.app._dispatcher.active)


async def eventually(true: Callable[[], bool], within_s: float = LIMIT_S) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


def settings_for(*engines: Engine | str, **changes: Any) -> dict[str, Any]:
    """Settings of a gateway that serves the model `m` from these engines."""
    endpoints = [{"url": e if isinstance(e, str) else e.url} for e in engines]
    quiet = {"port": 0, "keepalive_comment_s": 0.0, "ejection": {"failures": 1000}}
    return quiet | {"models": [{"name": "m", "endpoints": endpoints}]} | changes


@contextlib.asynccontextmanager
async def gateway(
    mode: Mode, *engines: Engine | str, routes: RouteTable | None = None, **changes: Any
) -> AsyncIterator[Gateway]:
    """A gateway in front of `engines`; `changes` are settings. Nothing of it is left afterwards."""
    settings = settings_of(settings_for(*engines, **changes))
    written: list[bytes] = []
    if mode == "splice":
        server = GatewayServer(settings, routes, write_log=written.append)
        await server.start()
        assert server._server is not None
        connections = server._server.server_state.connections
        running = Gateway(server.app, server.port, written)
        try:
            yield running
        finally:
            await running.close_clients()
            await eventually(lambda: not connections)
            await server.stop(drain_s=0)
        return
    app = GatewayApp(settings, routes, write_log=written.append)
    plain = _PlainUvicorn(
        uvicorn.Config(app, port=0, http="httptools", lifespan="on", log_config=None, access_log=False)
    )
    task = asyncio.create_task(plain.serve())
    await eventually(lambda: plain.started or task.done())
    running = Gateway(app, plain.servers[0].sockets[0].getsockname()[1], written)
    try:
        yield running
    finally:
        await running.close_clients()
        await eventually(lambda: not plain.server_state.connections)
        plain.should_exit = True
        plain.asked_to_stop.set()
        await task
