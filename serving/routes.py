"""Routes: which engine endpoints serve a model name. What discovery hands to the gateway. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

DEFAULT_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One replica's address.

    `url` is `http://host:port`, with a path prefix if the engine has one, without a trailing slash. `model` is the
    name the engine knows the model by; None when it is the route's own. `api_key` is sent to the engine as a bearer
    token. A draining endpoint finishes what it has and takes nothing new.
    """

    url: str
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Revision:
    """One version of a service's pod, and its share of the traffic (`weight`, relative to its siblings)."""

    name: str
    endpoints: tuple[Endpoint, ...]
    weight: int = 100


@dataclass(frozen=True, slots=True)
class Route:
    """A service and the model names it answers to; the first name is what `/v1/models` lists."""

    service: str
    models: tuple[str, ...]
    revisions: tuple[Revision, ...]
    namespace: str = "default"
    timeout_s: float = DEFAULT_TIMEOUT_S
    created_s: int = 0

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every endpoint of every revision."""
        return tuple(e for r in self.revisions for e in r.endpoints)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """An immutable snapshot of all routes. Replaced whole, never changed."""

    routes: tuple[Route, ...] = ()
    by_model: Mapping[str, Route] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index by model name.

        Raises:
            ValueError: two services claim one model name.
        """
        index: dict[str, Route] = {}
        for route in self.routes:
            for model in route.models:
                if model in index:
                    raise ValueError(
                        f"model name {model!r} is claimed by two services, "
                        f"{index[model].service!r} and {route.service!r}; each name needs one owner"
                    )
                index[model] = route
        object.__setattr__(self, "by_model", index)

    @classmethod
    def of(cls, routes: Iterable[Route]) -> "RouteTable":
        """A table of these routes."""
        return cls(tuple(routes))
