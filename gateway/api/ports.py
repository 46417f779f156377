"""What the application needs of the rest of the gateway."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp

from serving.routes import RouteTable


@dataclass(frozen=True, slots=True)
class ApiPorts:
    """The rest of the gateway, as the application sees it.

    Attributes:
        routes: the table in force.
        tenant_of: the tenant of an Authorization header; raises MissingKey or InvalidKey.
        ready: None if the gateway can serve, else the reason why it cannot.
        metrics: the Prometheus exposition, text format 0.0.4.
        inference: serves every inference path, by `scope["path"]`.
    """

    routes: Callable[[], RouteTable]
    tenant_of: Callable[[bytes | None], str]
    ready: Callable[[], str | None]
    metrics: Callable[[], bytes]
    inference: ASGIApp
