"""Wiring: everything a gateway is made of, as one ASGI application."""

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Callable, MutableMapping
from itertools import count
from secrets import token_hex
from time import perf_counter
from typing import Any

from gateway.accesslog import AccessLog
from gateway.api.app import ApiPorts, build_api
from gateway.call import HOT_PATHS, Call
from gateway.config import GatewaySettings
from gateway.cors import cors_headers
from gateway.dispatch import Dispatcher
from gateway.keys import KeyFile, KeyRing
from gateway.metering import Meter, Outcome, Record, outcome_of
from gateway.metrics import Exposition, GatewayCollector
from gateway.oip_call import COMPLETIONS, OipCall, oip_target
from gateway.pipeline import Pipeline
from gateway.probe import Prober
from gateway.protocol import EXTENSION, NAMED
from gateway.relay.headers import Headers, valid_request_id
from gateway.relay.sink import AsgiSink, Receive, Send
from gateway.upstream.fleet import Fleet
from serving.errors import ShuttingDown
from serving.routes import RouteTable

TICK_S = 0.2  # how exact time-outs and keep-alive comments are
EXPIRE_S = 5.0
KEYS_WATCH_S = 1.0
REQUEST_ID = b"x-request-id"
SERVED = "penstock.served"  # in a scope: the pipeline meters the request, and logs it
QUIET_PATHS = frozenset(("/healthz", "/readyz", "/metrics"))  # asked every few seconds; no line in the log


class GatewayApp:
    """The gateway, for any ASGI server; under `gateway.server` answers take the fast path.

    Args:
        settings: checked settings; `settings.models` are served unless `routes` are given.
        routes: what to serve; `set_routes` replaces it at any time.
        write_log: takes batches of access log lines; None writes to standard output.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        routes: RouteTable | None = None,
        *,
        write_log: Callable[[bytes], Any] | None = None,
    ) -> None:
        self.settings = settings
        self._routes = settings.route_table(created_s=int(time.time())) if routes is None else routes
        self._keys = None if settings.keys_file is None else KeyFile.load(settings.keys_file)
        self._open_ring = KeyRing.open()
        self._log = AccessLog(write_log or _write_stdout, time.time() - perf_counter())
        self.meter = Meter(self._log.add if settings.log.access else _ignore)
        self._id_prefix = f"req-{token_hex(6)}-"
        self._ids = count(1)
        self._cors = settings.cors.policy()
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False
        self._fleet: Fleet | None = None
        self._pipeline: Pipeline | None = None
        self._dispatcher: Dispatcher | None = None
        self._exposition = Exposition(
            GatewayCollector(
                self.meter,
                lambda: self._fleet.endpoints() if self._fleet else iter(()),
                lambda: self._log.dropped,
            )
        )
        self._api = build_api(
            ApiPorts(
                routes=lambda: self._routes,
                tenant_of=lambda header: self._ring().tenant_of(header),
                ready=self.why_not_ready,
                metrics=self._exposition.text,
                inference=self.serve_inference,
            ),
            settings,
        )

    def set_routes(self, table: RouteTable) -> None:
        """Serve this table from now on."""
        self._routes = table
        if self._fleet is not None:
            self._fleet.update(table)

    def busy(self, url: str) -> bool:
        """Whether requests are under way at an engine of this URL, also after it has left the routes."""
        return self._fleet is not None and self._fleet.busy(url)

    def why_not_ready(self) -> str | None:
        """None when requests can be served, else the reason in one sentence."""
        if self.draining:
            return "the gateway is shutting down"
        return None if self._routes.routes else "no model is served yet"

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        kind = scope["type"]
        if kind == "http":
            if scope["path"] in HOT_PATHS and scope["method"] == "POST":
                await self.serve_inference(scope, receive, send)
            else:
                await self._serve_cold(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)

    async def serve_inference(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI, for the inference paths."""
        if self._pipeline is None:
            self.start()
        assert self._pipeline is not None
        scope[SERVED] = True
        protocol = scope.get("extensions", {}).get(EXTENSION)
        splice = protocol.splice_for(scope) if protocol is not None else None
        call = self._call(scope, receive, splice)
        if splice is None:
            async with AsgiSink(receive, send) as sink:
                await self._pipeline.serve(call, call.sink(sink))
            return
        try:
            await self._pipeline.serve(call, call.sink(splice))
        except asyncio.CancelledError:
            if not self.draining:
                raise
            # The server ends what outlives the drain. That is no fault: the answer says so, and the log need not.
            if not splice.started:
                call.refuse(call.sink(splice), ShuttingDown("The gateway stopped before this request was answered."))

    def new_request_id(self) -> str:
        """For a request that came without one."""
        return f"{self._id_prefix}{next(self._ids)}"

    def start(self) -> None:
        """Begin what runs beside requests. Called once, in the event loop; by lifespan or the first request."""
        settings = self.settings
        fleet = self._fleet = Fleet(settings)
        fleet.update(self._routes)
        dispatcher = self._dispatcher = Dispatcher(
            fleet,
            retries=settings.retries,
            threshold=settings.ejection.failures,
            draw=random.Random().random,  # noqa: S311 - it settles ties and keeps no secret
        )
        self._pipeline = Pipeline(settings, self._ring, fleet, dispatcher, self.meter)
        prober = Prober(fleet, interval_s=settings.ejection.probe_interval_s, path=settings.ejection.probe_path)
        runs = [self._tick(dispatcher, fleet), self._log.run(), prober.run()]
        if self._keys is not None:
            runs.append(self._keys.watch(KEYS_WATCH_S))
        self._tasks = [asyncio.create_task(run) for run in runs]

    async def stop(self) -> None:
        """End what `start` began."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._fleet is not None:
            self._fleet.close()
        self._log.flush()

    def _call(self, scope: MutableMapping[str, Any], receive: Receive, splice: Any) -> Call:
        named: dict[bytes, bytes] = scope.get("extensions", {}).get(NAMED) or dict(scope["headers"])
        request_id = self._request_id(named.get(REQUEST_ID))
        extra: Headers = [(REQUEST_ID, request_id.encode())]
        if self._cors.enabled:
            extra += cors_headers(self._cors, named.get(b"origin"))
        path = scope["path"]
        record = Record(path, request_id, perf_counter())
        body_s = self.settings.timeouts.body_s
        hot = HOT_PATHS.get(path)
        if hot is not None:
            return Call(scope, receive, hot[0], hot[1], named, record, body_s, extra, splice)
        target = oip_target(path)
        return OipCall(scope, receive, "completion", COMPLETIONS, named, record, body_s, extra, splice).aim(target)

    def _request_id(self, given: bytes | None) -> str:
        if given is not None and valid_request_id(given):
            return given.decode()
        return self.new_request_id()

    async def _serve_cold(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """What the pipeline does not serve: give the answer an id, and the log a line."""
        given = next((value for name, value in scope["headers"] if name == REQUEST_ID), None)
        record = Record(scope["path"], self._request_id(given), perf_counter())

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = list(message.get("headers", ()))
                if all(name != REQUEST_ID for name, _ in headers):
                    headers.append((REQUEST_ID, record.request_id.encode()))
                    protocol = scope.get("extensions", {}).get(EXTENSION)
                    if protocol is not None and protocol.body_pending:
                        headers.append((b"connection", b"close"))
                    message["headers"] = headers
            await send(message)

        try:
            await self._api(scope, receive, send_with_id)
        finally:
            if record.path not in QUIET_PATHS and SERVED not in scope:
                record.outcome = Outcome.OK if 0 < record.status < 400 else outcome_of(record.status or 500)
                self.meter.settle(record, perf_counter())

    def _ring(self) -> KeyRing:
        return self._open_ring if self._keys is None else self._keys.ring

    async def _tick(self, dispatcher: Dispatcher, fleet: Fleet) -> None:
        expire_s = perf_counter() + EXPIRE_S
        while True:
            await asyncio.sleep(TICK_S)
            now = perf_counter()
            for relay in tuple(dispatcher.active):
                relay.check(now)
            if now > expire_s:
                expire_s = now + EXPIRE_S
                fleet.expire()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _write_stdout(lines: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()


def _ignore(_record: Record) -> None:
    """No access log."""
