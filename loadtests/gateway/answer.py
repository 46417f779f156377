"""One answer of the stand-in engine in progress: paced, stoppable, and wrong on request."""

import asyncio
from dataclasses import dataclass, field

import msgspec

from loadtests.gateway.transcript import (
    DEFAULT_CHUNK_BYTES,
    DONE_EVENT,
    ERROR_EVENT,
    FIRST_EVENT,
    LAST_EVENT,
    Ask,
    Fault,
    closing_events,
    text_event,
    whole_answer,
)

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_STREAM_END = b"0\r\n\r\n"
# LiteLLM ends a stream with an error after a hundred equal tokens, so ours differ from one to the next.
_DISTINCT = 16
FAILURE = b'{"error":{"message":"the stand-in was told to fail","type":"api_error","param":null,"code":null}}'


class Stats(msgspec.Struct):
    """Counts of completions since the start, and the most that ran at once."""

    started: int = 0
    finished: int = 0
    cancelled: int = 0
    peak: int = 0

    @property
    def running(self) -> int:
        """Completions begun and neither finished nor cancelled."""
        return self.started - self.finished - self.cancelled

    def begin(self) -> None:
        """Count one more."""
        self.started += 1
        self.peak = max(self.peak, self.running)


@dataclass(slots=True)
class Engine:
    """Settings of one stand-in and what it has counted."""

    gap_s: float = 0.02
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    stats: Stats = field(default_factory=Stats)
    tokens: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Build the events that all streams without a seed share."""
        self.tokens = tuple(frame(text_event(0, index, self.chunk_bytes)) for index in range(_DISTINCT))

    def event(self, seed: int | None, index: int) -> bytes:
        """The framed event of one token."""
        if seed is None:
            return self.tokens[index % _DISTINCT]
        return frame(text_event(seed, index, self.chunk_bytes))


def frame(body: bytes) -> bytes:
    """Pure. One chunk of a chunked answer."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def reply(body: bytes, status: bytes = b"200 OK") -> bytes:
    """Pure. A complete JSON answer."""
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


class Answer:
    """One answer: a chain of timers, because a task that sleeps costs the machine under test more."""

    __slots__ = (
        "_ask",
        "_engine",
        "_gap_s",
        "_index",
        "_loop",
        "_next_s",
        "_paused",
        "_timer",
        "_transport",
        "over",
    )

    def __init__(self, ask: Ask, engine: Engine, transport: asyncio.Transport) -> None:
        self._ask = ask
        self._engine = engine
        self._gap_s = engine.gap_s if ask.stand_in.gap_s is None else ask.stand_in.gap_s
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._index = 0
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self.over = False
        self._next_s = self._loop.time() + ask.stand_in.first_byte_s
        engine.stats.begin()
        if ask.stand_in.first_byte_s > 0:
            self._timer = self._loop.call_at(self._next_s, self._begin)
        else:
            self._begin()

    def cancel(self) -> None:
        """The connection is lost: say nothing more."""
        if self.over:
            return
        self.over = True
        self._engine.stats.cancelled += 1
        if self._timer is not None:
            self._timer.cancel()

    def pause(self) -> None:
        """The client reads too slowly: hold the next token back."""
        self._paused = True

    def resume(self) -> None:
        """The client has caught up."""
        if self._paused and not self.over:
            self._paused = False
            self._schedule()

    def _begin(self) -> None:
        ask = self._ask
        if ask.stand_in.fault is Fault.ERROR_STATUS:
            self._finish(reply(FAILURE, b"500 Internal Server Error"))
        elif ask.stream:
            self._transport.write(_STREAM_HEAD + frame(FIRST_EVENT))
            self._schedule()
        elif ask.stand_in.fault is Fault.CUT:
            self._cut(reply(whole_answer(ask))[:-20])
        else:
            self._finish(reply(whole_answer(ask)))

    def _schedule(self) -> None:
        if self._paused:
            return
        # From the schedule, not from the last chunk: lateness does not add up.
        self._next_s += self._gap_s
        self._timer = self._loop.call_at(self._next_s, self._say)

    def _say(self) -> None:
        ask, index = self._ask, self._index
        if index == ask.tokens // 2 and self._break():
            return
        event = self._engine.event(ask.seed, index)
        self._index = index + 1
        if self._index == ask.tokens:
            self._transport.write(event)
            self._finish(frame(self._closing()) + _STREAM_END)
        else:
            self._transport.write(event)
            self._schedule()

    def _break(self) -> bool:
        """Misbehave half-way, if told to; True when that was the end of the answer."""
        fault = self._ask.stand_in.fault
        if fault is Fault.CUT:
            self._cut(b"")
        elif fault is Fault.ERROR_EVENT:
            self._finish(frame(ERROR_EVENT + DONE_EVENT) + _STREAM_END)
        return self.over

    def _closing(self) -> bytes:
        if self._ask.stand_in.fault is Fault.NO_DONE:
            return LAST_EVENT
        return closing_events(self._ask.tokens, usage=self._ask.wants_usage)

    def _finish(self, last: bytes) -> None:
        self.over = True
        self._engine.stats.finished += 1
        self._transport.write(last)

    def _cut(self, last: bytes) -> None:
        self._finish(last)
        self._transport.close()
