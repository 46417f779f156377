"""Failure 8 from the engine's socket to the client's: chunks and reads may be cut anywhere."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.metering import Outcome, Record
from gateway.relay.delivery import Traits
from gateway.relay.patience import Patience
from gateway.relay.relay import Relay
from gateway.relay.sink import Headers, Watcher
from gateway.upstream.connection import Connection
from tests.gateway.chat import DONE, FINISH, ROLE, SEEN, STREAM, USAGE, says
from tests.gateway.splits import cuts, streams, wanted

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PATIENCE = Patience(first_byte_s=60, idle_s=60, total_s=60, comment_s=0)


class Wire:
    """The engine's transport, as far as a connection uses it."""

    reader: asyncio.Protocol

    def __init__(self) -> None:
        self.sent = b""
        self.aborted = False
        self.reading = True

    def set_protocol(self, reader: asyncio.Protocol) -> None:
        self.reader = reader

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    close = abort

    def is_closing(self) -> bool:
        return self.aborted

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0


class Heard:
    """A client's side that keeps what it is given. `framed`: it takes frames as they come."""

    def __init__(self, *, framed: bool) -> None:
        self.framed = framed
        self.started = False
        self.ended = False
        self.cut = False
        self.status = 0
        self.body = b""
        self.frames = 0
        self.watcher: Watcher | None = None

    def watch(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        self.start(status, headers)
        self.body = body
        self.ended = True

    refuse = respond

    def start(self, status: int, headers: Headers) -> None:
        assert not self.started
        self.started = True
        self.status = status

    def data(self, data: bytes) -> None:
        assert self.started
        assert data
        assert not self.ended
        self.body += data

    def frame_writer(self) -> Callable[[bytes], object] | None:
        return self._frame if self.framed else None

    def _frame(self, raw: bytes) -> None:
        size, _, rest = raw.partition(b"\r\n")
        assert len(rest) == int(size, 16) + 2
        assert rest.endswith(b"\r\n")
        self.frames += 1
        self.data(rest[:-2])

    def end(self) -> None:
        assert not self.ended
        self.ended = True

    def abort(self) -> None:
        self.cut = True


class Line:
    """A relay between a wire and a client, by hand."""

    def __init__(self, *, strip: bool = True, framed: bool = True, done: bool = True) -> None:
        self.wire = Wire()
        self.heard = Heard(framed=framed)
        self.free = 0
        self.gone = 0
        self.record = Record("/", "id", 1.0)
        self.connection = Connection(self._freed, self._lost)
        self.wire.reader = self.connection
        self.connection.connection_made(cast("asyncio.Transport", self.wire))
        self.relay = Relay(self.heard, self.record, PATIENCE, Traits(True, strip, done), [])
        self.attempt = asyncio.ensure_future(self.relay.attempt(self.connection, b"head", b"body"))

    def _freed(self, _: Connection) -> None:
        self.free += 1

    def _lost(self, _: Connection) -> None:
        self.gone += 1

    async def feed(self, *reads: bytes) -> "Line":
        await asyncio.sleep(0)
        for read in reads:
            self.wire.reader.data_received(read)
        return self


def frame(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def run(go: Callable[[], Any]) -> None:
    asyncio.run(go())


@settings(max_examples=200, deadline=None)
@given(st.data(), streams(), st.booleans(), st.booleans())
def test_f08_chunks_and_reads_may_be_cut_anywhere(
    data: st.DataObject, events: list[bytes], strip: bool, framed: bool
) -> None:
    chunks = data.draw(st.one_of(cuts(b"".join(events)), st.just(events)), label="chunks")
    framed_body = [frame(c) for c in chunks if c] + [b"0\r\n\r\n"]
    reads = data.draw(st.one_of(cuts(HEAD + b"".join(framed_body)), st.just([HEAD, *framed_body])), label="reads")

    async def go() -> None:
        line = await Line(strip=strip, framed=framed).feed(*reads)
        assert await line.attempt is None
        assert line.heard.body == wanted(events, strip_usage=strip)
        assert line.heard.ended
        assert line.free == 1
        assert (line.record.outcome, line.record.tokens_in, line.record.tokens_out) == (Outcome.OK, 7, 3)

    run(go)


@settings(max_examples=100, deadline=None)
@given(st.data(), streams())
def test_f08_a_body_without_chunks_may_be_cut_anywhere(data: st.DataObject, events: list[bytes]) -> None:
    body = b"".join(events)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)
    reads = data.draw(cuts(head + body))

    async def go() -> None:
        line = await Line().feed(*reads)
        assert await line.attempt is None
        assert line.heard.body == wanted(events, strip_usage=True)

    run(go)


@settings(max_examples=100, deadline=None)
@given(st.data(), streams())
def test_f08_a_stream_cut_off_anywhere_is_never_silent(data: st.DataObject, events: list[bytes]) -> None:
    raw = HEAD + b"".join(frame(e) for e in events[:-1])
    raw = raw[: data.draw(st.integers(len(HEAD), len(raw)))]
    reads = data.draw(cuts(raw))

    async def go() -> None:
        line = await Line().feed(*reads)
        line.connection.connection_lost(None)
        failed = await line.attempt
        if failed is not None:  # nothing had been said: it may be tried elsewhere
            assert line.heard.body == b""
            return
        assert line.heard.body.endswith(DONE)
        whole, _, error = line.heard.body.removesuffix(DONE).rpartition(b'data: {"error":')
        assert b"engine_bad_response" in error
        assert b"".join(events).startswith(whole) or whole in b"".join(e for e in events if e != USAGE)
        assert line.record.outcome is Outcome.ENGINE_ERROR

    run(go)


async def test_the_usual_stream_skips_the_parser() -> None:
    line = await Line().feed(HEAD, *[frame(e) for e in (ROLE, says("a"), *[says("b")] * 20, FINISH, USAGE, DONE)])
    assert line.heard.frames >= 20
    line.connection.data_received(b"0\r\n\r\n")
    assert await line.attempt is None
    assert line.record.tokens_out == 3


@pytest.mark.parametrize("last", [b"0\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n"])
async def test_many_events_in_one_read(last: bytes) -> None:
    line = await Line().feed(HEAD + b"".join(frame(e) for e in STREAM) + last)
    assert await line.attempt is None
    assert line.heard.body == SEEN


async def test_a_connection_left_paused_by_a_slow_client_reads_again() -> None:
    line = Line()

    class Slow(Heard):
        def data(self, data: bytes) -> None:
            super().data(data)
            line.relay.client_slow(slow=True)

    line.heard.__class__ = Slow
    await line.feed(HEAD + b"".join(frame(e) for e in STREAM) + b"0\r\n\r\n")
    assert await line.attempt is None
    assert line.free == 1
    assert line.wire.is_reading()


async def test_a_slow_client_pauses_and_a_quick_one_resumes() -> None:
    line = await Line().feed(HEAD, frame(ROLE))
    line.relay.client_slow(slow=True)
    assert not line.wire.is_reading()
    line.relay.client_slow(slow=False)
    assert line.wire.is_reading()
    line.relay.client_gone()
    line.relay.client_gone()
    assert await line.attempt is None
    assert line.record.outcome is Outcome.CLIENT_CLOSED
    assert line.connection.closed
    line.relay.client_slow(slow=True)


async def test_a_connection_that_was_closed_since_it_was_handed_over_is_stale() -> None:
    line = Line()
    line.connection.connection_lost(None)
    failed = await line.attempt
    assert failed is not None
    assert failed.stale


async def test_bytes_nobody_asked_for_close_the_connection() -> None:
    connection = Connection(lambda _: None, lambda _: None)
    wire = Wire()
    connection.connection_made(cast("asyncio.Transport", wire))
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert wire.aborted
    assert connection.closed


async def test_a_client_that_left_before_its_request_was_sent_needs_no_connection() -> None:
    class Gone(Heard):
        def watch(self, watcher: Watcher) -> None:
            watcher.client_gone()

    record = Record("/", "id", 1.0)
    relay = Relay(Gone(framed=True), record, PATIENCE, Traits(stream=True, strip_usage=True, openai_done=True), [])

    async def connecting() -> Connection:
        raise AssertionError("nobody needs it")

    assert await relay.unless_gone(connecting()) is None
    assert record.outcome is Outcome.CLIENT_CLOSED
