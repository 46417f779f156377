"""uvicorn's HTTP protocol with a way around ASGI for answers: the relay writes to the client's transport itself.

uvicorn parses requests, keeps connections alive and starts the application as ever. What this subclass adds: a *splice*
in `scope["extensions"]` (the answer's fast path, and word of a hang-up the moment it happens), back-pressure to the
engine, and a hard edge: bounds on size, slowness and number, and errors in OpenAI's shape.
"""

import asyncio
import math
import select
from collections.abc import Mapping
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.refusal import BadHead, HeadTooLarge, check_framing, head_length, refusal
from gateway.resumed import Resumed, framing_of
from gateway.splice import Splice
from serving.errors import BodyTimeout, ClientError

EXTENSION = "penstock.splice"
NAMED = "penstock.headers"  # the last of each header, by name
LINGER_S = 5.0
MAX_PIPELINED = 64
# What a peer's FIN or RST shows as, where unread data keeps the loop from seeing it. Only Linux has the first.
HUNG_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class SpliceProtocol(HttpToolsProtocol):
    """Hand it to uvicorn as `http=`, and call `tend` about once a second.

    `head_bytes` bounds the size of a request's head; `known_paths` are targets that need not be taken apart;
    `new_request_id` gives an id to a request that is refused before the application sees it.
    """

    head_bytes = 65_536
    known_paths: Mapping[bytes, str] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.splice: Splice | None = None
        self.serving: RequestResponseCycle | None = None  # the request being answered; `cycle` is the one being read
        self.deaf = False  # what else comes is not read
        self.fault: ClientError | None = None
        self.ends_s = math.inf  # when to close, on the loop's clock; a timer for it would cost each request 1 µs
        self.in_head = False
        self.head_size = -1  # bytes of an unfinished head, about; -1 until the read that began it has been seen whole
        self.read_size = 0
        self.head_since_s = 0.0
        self.unsent = 0
        self.unsent_since_s = 0.0

    @staticmethod
    def new_request_id() -> str:
        """See the class."""
        return "req-refused"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop. A connection that never sends a request is closed like an idle one."""
        super().connection_made(cast("asyncio.Transport", transport))
        self.ends_s = self.loop.time() + self.timeout_keep_alive

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self.deaf:
            return
        self.read_size = len(data)
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    data = data[upgrade.args[0] :]
                    self._stay()
        except httptools.HttpParserError as error:
            self._refuse(self.fault or BadHead.because(_reason(error)))
            return
        if self.in_head:
            began = self.head_size < 0
            self.head_size = head_length(self.url, self.headers) if began else self.head_size + len(data)
            if self.head_size > self.head_bytes:
                self._refuse(HeadTooLarge.over(self.head_bytes))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the engine is told at once."""
        splice, self.splice = self.splice, None
        serving = self.serving
        if serving is not None and not serving.response_complete:
            serving.disconnected = True
            serving.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        if splice is not None:
            splice.client_gone()
        # The scope holds this object, which holds the scope: without the cut, what a connection leaves behind would
        # stay until the garbage collector comes by.
        self.scope = cast("Any", None)
        self.cycle = cast("Any", None)
        self.serving = None

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

    # -- parser ----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by the parser. Only a request ends an idle connection's time: empty lines before it do not."""
        super().on_message_begin()
        self.ends_s = math.inf
        self.in_head = True
        self.head_size = -1
        self.head_since_s = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser, which stops at what this raises."""
        try:
            self._take_head()
        except ClientError as fault:
            self.fault = fault
            raise

    def _take_head(self) -> None:
        headers = self.headers
        suspect = self.head_size >= 0 or self.read_size > self.head_bytes
        if suspect and head_length(self.url, headers) > self.head_bytes:
            raise HeadTooLarge.over(self.head_bytes)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise BadHead.because(f"more than {MAX_PIPELINED} requests were sent ahead of their answers")
        version = self.parser.get_http_version()
        named = dict(headers)
        check_framing(headers, named, version)
        if b"expect" in named:
            self.expect_100_continue = named[b"expect"].lower() == b"100-continue" and version == "1.1"
        scope = cast("dict[str, Any]", self.scope)
        scope["extensions"] = {EXTENSION: self, NAMED: named}
        path = self.known_paths.get(self.url)
        if path is None or self.parser.get_method() != b"POST":
            super().on_headers_complete()
        else:
            scope["method"], scope["path"], scope["raw_path"], scope["query_string"] = "POST", path, self.url, b""
            scope["http_version"] = version
            self._begin(version)
        self.in_head = False
        self.headers = []  # what may follow a chunked body is no header
        if not self.pipeline or self.pipeline[0][0] is not self.cycle:
            self.serving = self.cycle
        if version != "1.1" and version != "1.0":
            raise BadHead.because(f"HTTP/{version} is not spoken here")

    def _begin(self, version: str) -> None:
        """What uvicorn does when a head is complete, less taking its target apart."""
        before = self.cycle
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_message_complete(self) -> None:
        """Called by the parser. After the head of an upgrade it takes the body for another protocol; see `_stay`."""
        cycle = self.cycle
        if not cycle.response_complete and not self.parser.should_upgrade():
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Called by uvicorn when an answer is complete."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.flow.resume_reading()
            self.serving, app = self.pipeline.pop()
            self._start_asgi_task(self.serving, app)
        elif self.body_pending:
            self.hang_up()  # what follows is a body that nobody reads
        elif not self.deaf:
            self.flow.resume_reading()
            if not self.in_head:
                self.ends_s = self.loop.time() + self.timeout_keep_alive

    # -- for the application ---------------------------------------------------------------------------------------

    def splice_for(self, scope: Mapping[str, Any]) -> Splice | None:
        """The splice of the request that `scope` belongs to; None if it is not the one being served."""
        cycle = self.serving
        if cycle is None or cycle.scope is not scope or cycle.response_complete:
            return None
        return Splice(self, cycle)

    @property
    def body_pending(self) -> bool:
        """Whether the body of the request being served has not come whole: the connection ends with its answer."""
        return self.serving is not None and self.serving.more_body

    def hang_up(self) -> None:
        """Close after what is written. A client that may still be sending is heard out for LINGER_S: to close on
        unread data resets the connection, which can take the answer with it.
        """
        if self.transport.is_closing():
            return
        if self.deaf or self.in_head or self.cycle.more_body:
            self.deaf = True
            self.flow.resume_reading()
            self.transport.write_eof()
            self.ends_s = self.loop.time() + LINGER_S
        else:
            self.transport.close()

    # -- for the server --------------------------------------------------------------------------------------------

    def tend(self, now: float, head_s: float, stall_s: float) -> None:
        """Called about once a second with the loop's clock: end what would otherwise stay for ever.

        Args:
            head_s: how long a request's head may take.
            stall_s: how long a client may take nothing of what is there for it.
        """
        if self._stalled(now, stall_s) or (self.flow.read_paused and self._hung_up()):
            self.transport.abort()
            return
        if now > self.ends_s:
            self.transport.close()
        if not self.in_head or self.deaf:
            return
        if self.flow.read_paused:
            self.head_since_s = now  # it cannot come, because we do not read
        elif now - self.head_since_s > head_s and not self.transport.is_closing():
            self._refuse(BodyTimeout(f"The request's head did not arrive within {head_s:g} s."))

    def _stalled(self, now: float, stall_s: float) -> bool:
        left = self.transport.get_write_buffer_size()
        if left != self.unsent:
            self.unsent, self.unsent_since_s = left, now
        return left > 0 and now - self.unsent_since_s > stall_s

    def _hung_up(self) -> bool:
        """Whether the client has, where reading is paused and so the loop cannot tell."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), HUNG_UP)
        return bool(poll.poll(0))

    # -- refusals --------------------------------------------------------------------------------------------------

    def _stay(self) -> None:
        """Go on in HTTP/1.1 with a request that offers another protocol, as RFC 9110, 7.8 allows."""
        self.parser = httptools.HttpRequestParser(Resumed(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(framing_of(self.scope["headers"]))

    def _refuse(self, error: ClientError) -> None:
        """Answer what cannot be read, unless requests before it still wait for theirs; then only these are answered."""
        self.deaf = True
        broken = None if self.in_head else self.cycle
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
            broken = None
        last = self.pipeline[0][0] if self.pipeline else self.serving
        if last is not None and not last.response_complete and (last is not broken or last.response_started):
            last.keep_alive = False
            return
        if broken is not None:
            broken.disconnected = True
            broken.message_event.set()
        self.transport.write(refusal(error, self.server_state.default_headers, self.new_request_id()))
        self.hang_up()


def _reason(error: httptools.HttpParserError) -> str:
    """The parser's own words; a fault inside a callback (a path that is none) has none worth showing."""
    shown = str(error)
    return "its target is not a path" if isinstance(error, httptools.HttpParserCallbackError) else shown.rstrip(".")
