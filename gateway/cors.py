"""Cross-origin requests: which headers let a web page call the gateway from a browser. Pure.

Headers are values added to an answer, and not a layer around `send`: a layer would cost every streamed chunk.
The rules are those of the Fetch standard; where credentials are allowed its `*` means nothing, so the page's
own origin is named instead.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

Header = tuple[bytes, bytes]
Headers = tuple[Header, ...]

EXPOSED = b"X-Request-Id, Retry-After"  # what a page may read, besides what every page may
_VARY = (b"vary", b"Origin")


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """Who may call, and how. `*` among origins, methods or headers means all. No origins: CORS is off."""

    origins: frozenset[bytes] = frozenset()
    methods: tuple[bytes, ...] = ()
    headers: tuple[bytes, ...] = ()
    credentials: bool = False
    max_age_s: int = 600
    any_origin: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "any_origin", b"*" in self.origins)

    @classmethod
    def of(
        cls,
        origins: Iterable[str] = (),
        methods: Iterable[str] = (),
        headers: Iterable[str] = (),
        *,
        credentials: bool = False,
        max_age_s: int = 600,
    ) -> "CorsPolicy":
        """A policy from text, as it stands in settings."""
        return cls(
            frozenset(o.encode() for o in origins),
            tuple(m.upper().encode() for m in methods),
            tuple(h.encode() for h in headers),
            credentials,
            max_age_s,
        )

    @property
    def enabled(self) -> bool:
        """Whether any origin is allowed."""
        return bool(self.origins)


def cors_headers(policy: CorsPolicy, origin: bytes | None) -> Headers:
    """Pure. What to add to an answer for a request with this `Origin` header (None: it has none).

    `Vary: Origin` is there whenever the answer depends on the origin, also for those that are not allowed: a
    cache must not give one page's answer to another.
    """
    if not policy.origins:
        return ()
    if policy.any_origin and not policy.credentials:
        return () if origin is None else (_allow(b"*"), _EXPOSE)
    if origin is None or not (policy.any_origin or origin in policy.origins):
        return (_VARY,)
    credentials = (_CREDENTIALS,) if policy.credentials else ()
    return (_allow(origin), *credentials, _EXPOSE, _VARY)


_EXPOSE = (b"access-control-expose-headers", EXPOSED)
_CREDENTIALS = (b"access-control-allow-credentials", b"true")
_VARY_PREFLIGHT = (
    b"vary",
    b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
)


def _allow(origin: bytes) -> Header:
    return (b"access-control-allow-origin", origin)


def is_preflight(method: str, headers: Iterable[Header]) -> bool:
    """Pure. Whether a browser asks leave for a request to come. `headers` have lower-case names."""
    return method == "OPTIONS" and {b"origin", b"access-control-request-method"} <= {n for n, _ in headers}


def preflight(policy: CorsPolicy, headers: Iterable[Header]) -> tuple[int, Headers, bytes]:
    """Pure. Status, headers and body that answer a preflight; 403 where it is refused, with the reason.

    `headers` are those of the request, with lower-case names.
    """
    given = dict(headers)
    origin = given.get(b"origin")
    method = given.get(b"access-control-request-method", b"").strip().upper()
    wanted = given.get(b"access-control-request-headers", b"")
    names = [name.strip() for name in wanted.split(b",") if name.strip()]
    if not policy.origins:
        return _refuse(b"Cross-origin requests are off.")
    if origin is None or not (policy.any_origin or origin in policy.origins):
        return _refuse(b"Requests from this origin are not allowed.")
    if b"*" not in policy.methods and method not in policy.methods:
        return _refuse(b"This method is not allowed from another origin.")
    if b"*" not in policy.headers and not {n.lower() for n in names} <= {h.lower() for h in policy.headers}:
        return _refuse(b"One of these headers is not allowed from another origin.")
    return 204, _leave(policy, origin, method, names), b""


def _leave(policy: CorsPolicy, origin: bytes, method: bytes, names: list[bytes]) -> Headers:
    anyone = policy.any_origin and not policy.credentials
    # Authorization is never covered by `*`, and nothing is where credentials are sent: name what was asked.
    allowed = names if b"*" in policy.headers else policy.headers
    methods = (method,) if b"*" in policy.methods else policy.methods
    found = [
        _allow(b"*" if anyone else origin),
        (b"access-control-allow-methods", b", ".join(methods)),
        (b"access-control-max-age", str(policy.max_age_s).encode()),
        _VARY_PREFLIGHT,
    ]
    if allowed:
        found.append((b"access-control-allow-headers", b", ".join(allowed)))
    if policy.credentials:
        found.append(_CREDENTIALS)
    return tuple(found)


def _refuse(reason: bytes) -> tuple[int, Headers, bytes]:
    return 403, ((b"content-type", b"text/plain; charset=utf-8"), _VARY_PREFLIGHT), reason
