"""uvicorn's HTTP protocol with a way around ASGI for answers: the relay writes to the client's transport itself.

uvicorn parses requests, keeps connections alive and starts the application as ever. What this subclass adds: a *splice*
in `scope["extensions"]` (the answer's fast path, and word of a hang-up the moment it happens), back-pressure to the
engine, bounds on the size and slowness of a request's head, and errors in OpenAI's shape.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.relay.sink import Headers, Watcher
from serving.errors import BodyTimeout, ClientError

EXTENSION = "penstock.splice"


class BadHead(ClientError):
    """What came is not an HTTP request."""

    code = "bad_request"


class HeadTooLarge(ClientError):
    """The request's head is over the limit."""

    status = 431
    code = "headers_too_large"


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
        if self._watcher is not None:
            self._watcher.client_gone()

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
        lines = [STATUS_LINE[status]]
        for name, value in cycle.default_headers:
            lines.append(b"%b: %b\r\n" % (name, value))
        for name, value in headers:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"connection" and value == b"close":
                cycle.keep_alive = False
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _complete(self) -> None:
        """Hand the connection back to uvicorn for the next request."""
        cycle = self._cycle
        self._watcher = None
        self._protocol.splice = None
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


class SpliceProtocol(HttpToolsProtocol):
    """Hand it to uvicorn as `http=`. `head_bytes` bounds the size of a request's head."""

    head_bytes = 65_536

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.splice: Splice | None = None
        self.in_head = True
        self.head_size = 0
        self.head_since_s = self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop. A connection that never sends a request is closed like an idle one."""
        super().connection_made(cast("asyncio.Transport", transport))
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        super().data_received(data)
        if self.in_head:
            self.head_size += len(data)
            if self.head_size > self.head_bytes and not self.transport.is_closing():
                self._refuse(HeadTooLarge(f"The request's head is over {self.head_bytes} bytes."))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the engine is told at once."""
        splice, self.splice = self.splice, None
        super().connection_lost(exc)
        if splice is not None:
            splice.client_gone()

    def pause_writing(self) -> None:
        """Called by the loop: the client does not read as fast as the engine writes."""
        super().pause_writing()
        if self.splice is not None:
            self.splice.client_slow(slow=True)

    def resume_writing(self) -> None:
        """Called by the loop."""
        super().resume_writing()
        if self.splice is not None:
            self.splice.client_slow(slow=False)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self.in_head = True
        self.head_size = 0
        self.head_since_s = self.loop.time()

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.in_head = False
        self.scope["extensions"] = cast("Any", {EXTENSION: self})
        super().on_headers_complete()

    def splice_for(self, scope: Mapping[str, Any]) -> Splice | None:
        """The splice of the request that `scope` belongs to; None if it is not the one being served."""
        cycle = self.cycle
        return Splice(self, cycle) if cycle.scope is scope and not cycle.response_complete else None

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is not HTTP."""
        self._refuse(BadHead(f"{msg} It cannot be parsed."))

    def head_overdue(self, now: float, allowed_s: float) -> bool:
        """Whether a request's head has been on its way for longer than `allowed_s` at `now` (the loop's clock)."""
        return self.in_head and self.scope is not None and self.head_size > 0 and now - self.head_since_s > allowed_s

    def refuse_slow_head(self) -> None:
        """Answer 408 and close."""
        self._refuse(BodyTimeout("The request's head did not arrive in time."))

    def _refuse(self, error: ClientError) -> None:
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.response_started:
            # An answer is under way on this connection; an error in the middle of it would corrupt it.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        body = error.body()
        status = STATUS_LINE.get(error.status, b"HTTP/1.1 %d \r\n" % error.status)
        self.transport.write(
            b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, len(body), body)
        )
        self.transport.close()
