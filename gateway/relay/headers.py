"""Which headers go on and which stay. Pure."""

from collections.abc import Mapping

from serving.errors import ApiError

Headers = list[tuple[bytes, bytes]]

# RFC 9110, 7.6.1, and what belongs to the connection between gateway and engine only. The length is given anew.
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Towards the engine, also: the caller's key is the gateway's business; a compressed answer could not be metered; the
# body is complete when it is sent, so there is nothing to expect.
_NOT_TO_ENGINE = _HOP_BY_HOP | {
    b"accept-encoding",
    b"api-key",
    b"authorization",
    b"cookie",
    b"expect",
    b"host",
    b"x-request-id",
}
# The server in front of the client dates and names its answers itself.
_NOT_TO_CLIENT = _HOP_BY_HOP | {b"x-request-id", b"date", b"server"}
EVENT_STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]
MAX_REQUEST_ID_CHARS = 128


def without_hop_by_hop(headers: Headers, named: Mapping[bytes, bytes]) -> Headers:
    """Pure. An engine's headers, as far as they are the client's. `named`: the same headers, by name."""
    hidden = _NOT_TO_CLIENT
    if b"connection" in named:
        hidden = hidden | _named_by_connection(headers)
    return [h for h in headers if h[0] not in hidden]


def request_head(start: bytes, headers: Headers, named: Mapping[bytes, bytes], request_id: bytes, length: int) -> bytes:
    """Pure. The head to send to an engine. `start`: request line and the engine's own headers, each with its CRLF;
    `named`: the same `headers`, by name.
    """
    hidden = _NOT_TO_ENGINE
    if b"connection" in named:
        hidden = hidden | _named_by_connection(headers)
    lines = b"".join([b"%b: %b\r\n" % h for h in headers if h[0] not in hidden])
    return b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (start, lines, request_id, length)


def is_event_stream(named: Mapping[bytes, bytes]) -> bool:
    """Pure. Whether a body with these headers is server-sent events."""
    return named.get(b"content-type", b"").lower().startswith(b"text/event-stream")


def error_headers(error: ApiError) -> Headers:
    """Pure. The headers of an error answer of the gateway's own."""
    headers = [(b"content-type", b"application/json")]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def valid_request_id(given: bytes) -> bool:
    """Pure. Whether a caller's request id may be used in logs and headers: printable ASCII, not too long."""
    return 0 < len(given) <= MAX_REQUEST_ID_CHARS and given.isascii() and given.decode().isprintable()


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Header names that `Connection` declares to be hop-by-hop."""
    return frozenset(token.strip().lower() for n, v in headers if n == b"connection" for token in v.split(b","))
