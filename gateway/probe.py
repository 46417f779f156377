"""Asking ejected endpoints whether they are back. Adapter."""

import asyncio
from http import HTTPStatus

from gateway.relay.headers import Headers
from gateway.upstream.endpoint import EndpointState
from gateway.upstream.fleet import Fleet
from serving.errors import ApiError

PROBE_TIMEOUT_S = 2.0


class _Answer:
    """Waits for a status. Implements the connection's `Listener`."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_head(self, status: int, headers: Headers) -> None:
        """See Listener."""
        del headers
        self.status.set_result(status)

    def on_body(self, data: bytes) -> None:
        """The body does not matter."""

    def on_end(self) -> None:
        """See Listener."""
        if not self.complete.done():
            self.complete.set_result(None)

    def on_lost(self, reason: str, *, fresh: bool) -> None:
        """See Listener."""
        del reason, fresh
        if not self.status.done():
            self.status.set_result(HTTPStatus.BAD_GATEWAY)
        if not self.complete.done():
            self.complete.set_result(None)


class Prober:
    """Probes every ejected endpoint each `interval_s` with GET `path`; an answer under 500 brings it back."""

    def __init__(self, fleet: Fleet, *, interval_s: float, path: str) -> None:
        self._fleet = fleet
        self._interval_s = interval_s
        self._path = path.encode()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            ejected = [e for e in self._fleet.endpoints() if e.health.ejected]
            if ejected:
                await asyncio.gather(*(self._probe(e) for e in ejected))

    async def _probe(self, endpoint: EndpointState) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                alive = await self._ask(endpoint)
        except (ApiError, TimeoutError):
            return
        if alive:
            endpoint.succeeded()

    async def _ask(self, endpoint: EndpointState) -> bool:
        connection = await endpoint.pool.connect(new=True)
        answer = _Answer()
        request = endpoint.request_start(self._path).replace(b"POST ", b"GET ", 1) + b"\r\n"
        try:
            connection.send(request, b"", answer)
            status = await answer.status
            await answer.complete
        except BaseException:
            connection.abort()
            raise
        return status < HTTPStatus.INTERNAL_SERVER_ERROR
