"""One engine endpoint as this gateway sees it: its connections, what is in flight there, its health."""

from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from gateway.routing.health import HEALTHY, Health, failed, succeeded
from gateway.routing.pick import Candidate
from gateway.upstream.pool import Pool
from serving.routes import Endpoint


class EndpointState:
    """Kept for as long as any route names the address.

    Args:
        id_: what routing calls it.
        address: where it is.
        pool: its connections.
    """

    __slots__ = ("address", "draining", "health", "id", "name", "pool", "requests", "starts", "tokens")

    def __init__(self, id_: int, address: Endpoint, pool: Pool) -> None:
        self.id = id_
        self.address = address
        self.pool = pool
        self.name = urlsplit(address.url).netloc
        self.health: Health = HEALTHY
        self.draining = address.draining
        self.requests = 0
        self.tokens = 0
        self.starts: dict[bytes, bytes] = {}

    def candidate(self, revision: str, weight: int) -> Candidate:
        """Routing's view of it now."""
        return Candidate(self.id, revision, weight, self.requests, self.tokens, not self.health.ejected, self.draining)

    def request_start(self, target: bytes) -> bytes:
        """Request line, host and the engine's own key for a POST to `target` (path and query)."""
        start = self.starts.get(target)
        if start is None:
            prefix = urlsplit(self.address.url).path.encode()
            start = b"POST %b%b HTTP/1.1\r\nhost: %b\r\n" % (prefix, target, self.name.encode())
            if self.address.api_key:
                start += b"authorization: Bearer %b\r\n" % self.address.api_key.encode()
            if b"?" not in target:  # queries are the client's to vary
                self.starts[target] = start
        return start

    def failed(self, threshold: int) -> None:
        """An attempt failed in a way that speaks against the endpoint."""
        self.health = failed(self.health, threshold)

    def succeeded(self) -> None:
        """It answered."""
        self.health = succeeded()


class InFlight:
    """Counts a request at an endpoint from dispatch to its end, however it ends."""

    __slots__ = ("_endpoint", "_tokens")

    def __init__(self, endpoint: EndpointState, tokens: int) -> None:
        self._endpoint = endpoint
        self._tokens = tokens

    def __enter__(self) -> Self:
        self._endpoint.requests += 1
        self._endpoint.tokens += self._tokens
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._endpoint.requests -= 1
        self._endpoint.tokens -= self._tokens
