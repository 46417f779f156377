"""What the client is given: an answer, an error, or a stream and its end. Adapter over `Sink`."""

from msgspec import Struct

from gateway.metering import Record
from gateway.relay.headers import EVENT_STREAM_HEADERS, Headers, error_headers
from gateway.relay.sink import Sink
from gateway.relay.sse import DONE
from gateway.relay.usage import normalise_error
from serving.errors import ApiError

COMMENT = b": keep-alive\n\n"


class Traits(Struct, frozen=True, gc=False):
    """What is particular to one request's answer.

    Attributes:
        stream: the client asked for a stream.
        strip_usage: the usage chunk was asked for by the gateway, and is not passed on.
        openai_done: the stream has to end with `[DONE]`.
    """

    stream: bool
    strip_usage: bool
    openai_done: bool


class Delivery:
    """The client's side of one request. `begun`: something of an answer has gone out, so no other can replace it; a
    keep-alive comment does not count.
    """

    __slots__ = ("_extra", "_record", "_sink", "begun")

    def __init__(self, sink: Sink, record: Record, extra: Headers) -> None:
        self._sink = sink
        self._record = record
        self._extra = extra  # headers that the answer carries besides the engine's own
        self.begun = False

    @property
    def started(self) -> bool:
        """Whether a head has gone out, and so the status is settled."""
        return self._sink.started

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer; as an event of the stream if the status is out of reach."""
        if not self._sink.started:
            self._record.status = status
            self._sink.respond(status, headers + self._extra, body)
        elif status >= 400:
            self.last_event(normalise_error(body, status))
        else:
            self.last_event(b" ".join(body.split(b"\n")))

    def error(self, error: ApiError) -> None:
        """That there will be no answer: as an HTTP error, or in the stream if one has begun."""
        self._record.error_code = error.code
        if self._sink.started:
            self.last_event(error.body())
        else:
            self._record.status = error.status
            self._sink.respond(error.status, error_headers(error) + self._extra, error.body())

    def part(self, status: int, headers: Headers, data: bytes) -> None:
        """Part of a streamed body; its first brings the head."""
        self.begun = True
        if not self._sink.started:
            self._start(status, headers)
        self._sink.data(data)

    def comment(self) -> None:
        """A keep-alive comment."""
        if not self._sink.started:
            self._start(200, EVENT_STREAM_HEADERS)
        self._sink.data(COMMENT)

    def last_event(self, data: bytes) -> None:
        """One more event, `[DONE]`, and the end of the stream."""
        self._sink.data(b"data: %b\n\n%b" % (data, DONE))
        self._sink.end()

    def end(self, status: int, headers: Headers) -> None:
        """The streamed body is complete; it may have been empty."""
        if not self._sink.started:
            self._start(status, headers)
        self._sink.end()

    def abort(self) -> None:
        """Break off so that the client sees it."""
        self._sink.abort()

    def _start(self, status: int, headers: Headers) -> None:
        self._record.status = status
        self._sink.start(status, headers + self._extra)
