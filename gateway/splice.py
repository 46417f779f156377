"""The client's side of one request, written to uvicorn's own transport with nothing in between."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.relay.sink import Headers, Watcher

if TYPE_CHECKING:
    from gateway.protocol import SpliceProtocol

CLOSE = (b"connection", b"close")


class Splice:
    """The client's side of one request, on uvicorn's own transport. Implements `Sink`."""

    __slots__ = ("_chunked", "_cycle", "_gone", "_head", "_protocol", "_watcher", "started")

    def __init__(self, protocol: "SpliceProtocol", cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._watcher: Watcher | None = None
        self._head = b""
        self._gone = False
        # HTTP/1.0 knows no chunks: the body ends with the connection.
        self._chunked = cycle.scope["http_version"] == "1.1"
        self.started = False

    def take_body(self) -> bytes | None:
        """The request body if it has come whole, else None."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected:
            return None
        cycle.flow.resume_reading()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def watch(self, watcher: Watcher) -> None:
        """See Sink."""
        self._watcher = watcher
        self._protocol.splice = self
        if self._cycle.disconnected:
            self.client_gone()
        elif self._cycle.flow.write_paused:
            watcher.client_slow(slow=True)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See Sink."""
        if self._silent():
            return
        head = self._render(status, [*headers, (b"content-length", b"%d" % len(body))])
        self._cycle.transport.write(head + body)
        self._complete()

    refuse = respond

    def start(self, status: int, headers: Headers) -> None:
        """See Sink. The head goes out with the first data."""
        self.started = self._cycle.response_started = True
        if self._chunked:
            headers = [*headers, (b"transfer-encoding", b"chunked")]
        else:
            self._cycle.keep_alive = False
        self._head = self._render(status, headers)

    def data(self, data: bytes) -> None:
        """See Sink."""
        if self._chunked:
            self._write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._write(data)

    def frame_writer(self) -> Callable[[bytes], object] | None:
        """See Sink: frames go to the transport with nothing in between."""
        return self._cycle.transport.write if self._chunked else None

    def _write(self, raw: bytes) -> None:
        if self._gone:
            return
        if self._head:
            raw, self._head = self._head + raw, b""
        self._cycle.transport.write(raw)

    def end(self) -> None:
        """See Sink."""
        if self._silent():
            return
        if self._chunked:
            self._write(b"0\r\n\r\n")
        elif self._head:
            self._write(b"")
        self._complete()

    def abort(self) -> None:
        """See Sink."""
        self._cycle.disconnected = True
        if self._cycle.flow.write_paused:
            self._cycle.transport.abort()  # the client does not read; what is written would wait for ever
        else:
            self._cycle.transport.close()  # what is written still goes out, but no end of the body

    def client_gone(self) -> None:
        """The protocol says so."""
        self._gone = self._cycle.disconnected = True
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.client_gone()

    def client_slow(self, *, slow: bool) -> None:
        """The protocol says so."""
        if self._watcher is not None and not self._cycle.response_complete:
            self._watcher.client_slow(slow=slow)

    def _silent(self) -> bool:
        return self._gone or self._cycle.disconnected or self._cycle.response_complete

    def _render(self, status: int, headers: Headers) -> bytes:
        cycle = self._cycle
        self.started = cycle.response_started = True
        cycle.waiting_for_100_continue = False
        if cycle.more_body:
            cycle.keep_alive = False  # what comes next may be a body that nobody reads, or the next request
        if CLOSE in headers:
            cycle.keep_alive = False
            headers = [h for h in headers if h != CLOSE]
        lines = [b"%b: %b\r\n" % h for h in cycle.default_headers + headers]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        return b"%b%b\r\n" % (status_line(status), b"".join(lines))

    def _complete(self) -> None:
        """Hand the connection back to the server for the next request."""
        cycle = self._cycle
        self._watcher = None
        self._protocol.splice = None
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self._protocol.hang_up()
        cycle.on_response()


def status_line(status: int) -> bytes:
    """Pure. The first line of an answer."""
    return STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status
