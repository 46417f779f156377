"""Which headers go on and which stay. Pure."""

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


def without_hop_by_hop(headers: Headers) -> Headers:
    """Pure. An engine's headers, as far as they are the client's."""
    named = _named_by_connection(headers)
    if named:
        return [h for h in headers if h[0] not in _NOT_TO_CLIENT and h[0] not in named]
    return [h for h in headers if h[0] not in _NOT_TO_CLIENT]


def request_head(start: bytes, headers: Headers, request_id: bytes, length: int) -> bytes:
    """Pure. The head to send to an engine. `start`: request line and the engine's own headers, each with its CRLF."""
    named = _named_by_connection(headers)
    lines = [start]
    lines += [b"%b: %b\r\n" % h for h in headers if h[0] not in _NOT_TO_ENGINE and h[0] not in named]
    lines.append(b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (request_id, length))
    return b"".join(lines)


def is_event_stream(headers: Headers) -> bool:
    """Pure. Whether a body is server-sent events."""
    return any(name == b"content-type" and b"text/event-stream" in value.lower() for name, value in headers)


def valid_request_id(given: bytes) -> bool:
    """Pure. Whether a caller's request id may be used in logs and headers: printable ASCII, not too long."""
    return 0 < len(given) <= MAX_REQUEST_ID_CHARS and given.isascii() and given.decode().isprintable()


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Header names that `Connection` declares to be hop-by-hop."""
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            return frozenset(token.strip().lower() for n, v in headers if n == b"connection" for token in v.split(b","))
    return frozenset()
