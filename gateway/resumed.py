"""Reading on after `Upgrade`.

httptools ends HTTP at the head of a request that asks for an upgrade, also where it has a body and the upgrade is not
taken (Java's HTTP client sends `Upgrade: h2c` with every first request). A new parser is told how the body is framed,
and then reads it, and whatever follows.
"""

from collections.abc import Iterable
from typing import Protocol


class ParserCallbacks(Protocol):
    """What httptools calls."""

    def on_message_begin(self) -> None: ...

    def on_url(self, url: bytes) -> None: ...

    def on_header(self, name: bytes, value: bytes) -> None: ...

    def on_headers_complete(self) -> None: ...

    def on_body(self, body: bytes) -> None: ...

    def on_message_complete(self) -> None: ...


class Resumed:
    """Keeps the made-up head to itself and passes everything after it on."""

    def __init__(self, to: ParserCallbacks) -> None:
        self._to = to
        self._known = False
        self.on_body = to.on_body
        self.on_message_complete = to.on_message_complete

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self._known:
            self._to.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        if self._known:
            self._to.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if self._known:
            self._to.on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._known:
            self._to.on_headers_complete()
        self._known = True


def framing_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Pure. A head that says of the body what `headers` say, and nothing else."""
    framing = [b"%b: %b\r\n" % h for h in headers if h[0] in (b"content-length", b"transfer-encoding")]
    return b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing)
