"""What is not served because it is not HTTP as it should be, and the answer that says so. Pure."""

from collections.abc import Mapping

from gateway.splice import status_line
from serving.errors import ClientError

Headers = list[tuple[bytes, bytes]]


class BadHead(ClientError):
    """What came is not an HTTP request."""

    code = "bad_request"

    @classmethod
    def because(cls, reason: str) -> "BadHead":
        """The error, with `reason` in the middle of its sentence."""
        return cls(f"This is not a valid HTTP request: {reason}.")


class HeadTooLarge(ClientError):
    """The request's head is over the limit."""

    status = 431
    code = "headers_too_large"

    @classmethod
    def over(cls, limit: int) -> "HeadTooLarge":
        """The error for a head of more than `limit` bytes."""
        return cls(f"The request's head is over {limit} bytes.")


def check_framing(headers: Headers, named: Mapping[bytes, bytes], version: str) -> None:
    """Pure. What the parser lets pass, and could be read in two ways. `named`: the last of each of `headers`.

    Raises:
        BadHead: with the reason.
    """
    if len(named) != len(headers) or b"host" not in named:
        names = [name for name, _ in headers]
        hosts = names.count(b"host")
        if hosts > 1 or (not hosts and version == "1.1"):
            raise BadHead.because(f"it has {hosts or 'no'} Host headers; it needs one")
        if names.count(b"transfer-encoding") > 1:
            raise BadHead.because("it has several transfer codings")
    if b"transfer-encoding" in named and named[b"transfer-encoding"].strip().lower() != b"chunked":
        raise BadHead.because("the only transfer coding understood is 'chunked'")


def head_length(url: bytes, headers: Headers) -> int:
    """Pure. The size of a head, in bytes, less a few for the method and the version."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def refusal(error: ClientError, headers: Headers, request_id: str) -> bytes:
    """Pure. The whole answer, after which the connection is closed. `headers` are added to its own."""
    body = error.body()
    own = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    lines = [b"%b: %b\r\n" % header for header in headers + own]
    return b"%b%b\r\n%b" % (status_line(error.status), b"".join(lines), body)
