"""Every endpoint the routes name, and what each route may choose from. Adapter: it owns the connection pools."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

from gateway.config import GatewaySettings
from gateway.routing.pick import Candidate, Pick
from gateway.upstream.endpoint import EndpointState
from gateway.upstream.pool import Pool
from serving.routes import Endpoint, Route, RouteTable

IDLE_CONNECTION_S = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """A route with the state of its endpoints: (revision, weight, endpoint) each."""

    route: Route
    members: tuple[tuple[str, int, EndpointState], ...]
    only: Pick | None = None  # where there is nothing to choose

    def candidates(self) -> list[Candidate]:
        """A snapshot for routing."""
        return [endpoint.candidate(revision, weight) for revision, weight, endpoint in self.members]


class Fleet:
    """Follows the route table. Endpoints keep their connections, load and health over changes of the table."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._ids = count()
        self._by_address: dict[tuple[str, str | None, str | None], EndpointState] = {}
        self._leaving: list[EndpointState] = []  # no longer named, with requests still under way
        self.by_id: Mapping[int, EndpointState] = {}
        self.services: Mapping[str, Service] = {}
        self.table = RouteTable()

    def update(self, table: RouteTable) -> None:
        """Take over a new table. Requests under way at an endpoint that is no longer named run to their end."""
        before = self._by_address
        self._by_address = {}
        services: dict[str, Service] = {}
        for route in table.routes:
            members = tuple(
                (revision.name, revision.weight, self._endpoint(address, before))
                for revision in route.revisions
                for address in revision.endpoints
            )
            only = members[0][2] if len(members) == 1 else None
            service = Service(
                route, members, None if only is None or only.draining else Pick(only.id, "the only endpoint")
            )
            services.update(dict.fromkeys(route.models, service))
        for key, endpoint in before.items():
            if key not in self._by_address:
                endpoint.draining = True
                endpoint.pool.close()
                self._leaving.append(endpoint)
        self._leaving = [e for e in self._leaving if e.requests]
        self.by_id = {e.id: e for e in self._by_address.values()}
        self.services = services
        self.table = table

    def endpoints(self) -> Iterator[EndpointState]:
        """All of them."""
        return iter(self.by_id.values())

    def busy(self, url: str) -> bool:
        """Whether requests are under way at an endpoint of this URL, also one that no route names any more."""
        return any(e.requests for e in (*self.by_id.values(), *self._leaving) if e.address.url == url)

    def expire(self) -> None:
        """Close connections that have been idle for long."""
        now = asyncio.get_running_loop().time()
        for endpoint in self.endpoints():
            endpoint.pool.expire(now)

    def close(self) -> None:
        """Close every idle connection."""
        for endpoint in self.endpoints():
            endpoint.pool.close()

    def _endpoint(
        self, address: Endpoint, before: Mapping[tuple[str, str | None, str | None], EndpointState]
    ) -> EndpointState:
        key = (address.url, address.model, address.api_key)
        state = self._by_address.get(key) or before.get(key)
        if state is None:
            where = urlsplit(address.url)
            limits, timeouts = self._settings.limits, self._settings.timeouts
            pool = Pool(
                where.hostname or "",
                where.port or 80,
                limit=limits.connections_per_endpoint,
                waiting=limits.waiting_requests,
                connect_s=timeouts.connect_s,
                idle_s=IDLE_CONNECTION_S,
            )
            state = EndpointState(next(self._ids), address, pool)
        state.address = address
        state.draining = address.draining
        self._by_address[key] = state
        return state
