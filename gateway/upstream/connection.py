"""One HTTP/1.1 connection to an engine. Adapter: sockets in, callbacks out; no task, queue or future per read."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import httptools

Headers = list[tuple[bytes, bytes]]
MAX_HEAD_BYTES = 65_536
MAX_STATUS = 599
JOIN_BYTES = 65_536  # under this, copying is cheaper than a second write


class Listener(Protocol):
    """Who waits for an answer. Every method is called from the event loop, in this order, none after the end."""

    def on_head(self, status: int, headers: Headers) -> None:
        """The answer's head is complete; names are in lower case."""

    def on_body(self, data: bytes) -> None:
        """Part of the body, without framing."""

    def on_end(self) -> None:
        """The answer is complete. The connection may already serve another request."""

    def on_lost(self, reason: str, *, fresh: bool) -> None:
        """The connection went before the answer was complete. `fresh`: this was its first request, so it was not an
        idle connection that the engine had just closed.
        """


class Connection(asyncio.Protocol):
    """Serves one request at a time. After `send`, exactly one of `on_end` and `on_lost` follows, unless `abort`."""

    __slots__ = (
        "_body",
        "_frame_done",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_keep_alive",
        "_listener",
        "_on_free",
        "_on_gone",
        "_parser",
        "_status_ok",
        "between_frames",
        "closed",
        "ended_by_close",
        "served",
        "transport",
    )

    def __init__(self, on_free: Callable[["Connection"], None], on_gone: Callable[["Connection"], None]) -> None:
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.closed = False
        self.served = 0
        self._on_free = on_free
        self._on_gone = on_gone
        self._listener: Listener | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._in_head = True
        self.between_frames = False  # the parser expects the size of a chunk
        self._frame_done = False
        self._keep_alive = False
        self._status_ok = False
        self.ended_by_close = False  # the answer's end can be told from a cut only by what it says itself

    def send(self, head: bytes, body: bytes, listener: Listener) -> None:
        """Send a whole request."""
        if self.closed:  # since it was handed over
            asyncio.get_running_loop().call_soon(partial(listener.on_lost, "it was closed", fresh=False))
            return
        self._listener = listener
        self._in_head = True
        self._head_bytes = 0
        if len(body) < JOIN_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    def abort(self) -> None:
        """Drop the connection at once: the engine sees the hang-up and stops. Nothing is called back."""
        self._listener = None
        self.closed = True
        self.transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self.closed = True
        self.transport.close()

    def hand_over(self, reader: asyncio.Protocol) -> None:
        """Let `reader` have what is read from now on, as long as it takes whole chunks: while `between_frames`, the
        parser may be passed by. Before anything else it must `take_back`.
        """
        self.transport.set_protocol(reader)

    def take_back(self) -> None:
        """Read again."""
        self.transport.set_protocol(self)

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._listener is None:  # bytes nobody asked for
            self.close()
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """Called by the loop; False closes the transport."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.closed = True
        self._on_gone(self)
        listener, self._listener = self._listener, None
        if listener is None:
            return
        if exc is None and self.ended_by_close and not self._in_head:
            listener.on_end()
        else:
            listener.on_lost(str(exc) if exc else "the connection was closed", fresh=self.served == 0)

    def pause_writing(self) -> None:
        """The request is sent whole and held in memory anyway: nothing to pause."""

    def resume_writing(self) -> None:
        """See pause_writing."""

    # -- httptools -------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        self.between_frames = False
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"its answer is not valid HTTP ({error})")
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(f"the head of its answer is over {MAX_HEAD_BYTES} bytes")
            return
        # After "\r\n" as the end of a chunk the parser stands before a chunk size, and may be passed by.
        self.between_frames = self._frame_done and data.endswith(b"\r\n")
        if self._body and self._listener is not None:
            self._flush()

    def _flush(self) -> None:
        body, self._body = self._body, []
        if self._listener is not None:
            self._listener.on_body(body[0] if len(body) == 1 else b"".join(body))

    def _fail(self, reason: str) -> None:
        listener, self._listener = self._listener, None
        self.abort()
        if listener is not None:
            listener.on_lost(reason, fresh=True)

    def on_message_begin(self) -> None:
        """Called by the parser. An answer without a request would be taken for the next request's."""
        self._headers = []  # the last answer's trailers may stand there
        if self._listener is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        self._status_ok = status >= 200  # 100 Continue and its kin announce the real head
        if not self._status_ok or self._listener is None:
            return
        if status > MAX_STATUS:
            self._fail(f"its answer has the status {status}, which does not exist")
            return
        self._in_head = False
        self._keep_alive = self._parser.should_keep_alive()
        named = dict(headers)
        framed = b"content-length" in named or b"transfer-encoding" in named
        self.ended_by_close = not framed and status not in (204, 304)
        self._listener.on_head(status, headers)

    def on_chunk_header(self) -> None:
        """Called by the parser."""
        self._frame_done = False

    def on_chunk_complete(self) -> None:
        """Called by the parser."""
        self._frame_done = True

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._frame_done = False
        if not self._status_ok or self._listener is None:
            return
        if self._body:
            self._flush()
        listener, self._listener = self._listener, None
        self.served += 1
        if self.transport.get_write_buffer_size():
            # The answer came before the request had gone out whole, and the engine may never read the rest.
            self.closed = True
            self.transport.abort()
        elif self._keep_alive and not self.closed:
            if not self.transport.is_reading():  # paused for a slow client by the last part of this answer
                self.transport.resume_reading()
            self._on_free(self)
        else:
            self.close()
        if listener is not None:
            listener.on_end()
