"""Closed-loop load on one OpenAI-compatible URL: each of N connections sends, awaits its answer, sends again.

One protocol object per connection and no task or queue per request, so that the generator costs less than the
gateways it measures. What it counts as wrong:

    errors["401"]      an answer with that status
    errors["event"]    an error event inside a 200 stream
    errors["refused"]  no connection
    errors["closed"]   the connection was lost before the answer began
    errors["cut"]      the connection was lost within the answer
    errors["not_http"] the answer could not be parsed
    errors["timeout"]  sent and not answered within the time limit
    incomplete         streams that began with 200 and did not end in exactly one [DONE]; a cut stream is one
    mismatched         answers that differ from what the engine sent, where a request says what to expect
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import httptools

from loadtests.gateway.transcript import DONE_EVENT, Call, without_comments

_EVENT = b"data:"
_ERROR_EVENT = b'data: {"error"'
_TAIL_BYTES = 2 * len(DONE_EVENT)


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. `headers` are whole lines without the line end."""

    port: int
    path: str = "/v1/chat/completions"
    headers: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    key: str = "sk-bench"

    def request(self, call: Call) -> bytes:
        """The whole HTTP request for this call."""
        body = call.body()
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Authorization: Bearer {self.key}",
            *self.headers,
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Sending:
    """A request ready to send, and its whole answer's body where that is to be checked."""

    request: bytes
    stream: bool
    expected: bytes | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How much to send: `requests`, or as many of them as begin within `sending_s`.

    `next_request` is called with 0, 1, 2, ...; connections open evenly over `ramp_s`; what is not answered
    after `limit_s` is given up.
    """

    connections: int
    requests: int
    next_request: Callable[[int], Sending]
    sending_s: float = float("inf")
    ramp_s: float = 0.0
    limit_s: float = 180.0


@dataclass(slots=True)
class Tally:
    """What came back. Times in seconds; only good answers are timed.

    `max_gap_s` is the longest silence within a stream; `cpu_s` is what the generator itself used.
    """

    answered: int = 0
    chunks: int = 0
    incomplete: int = 0
    mismatched: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    ttft_s: list[float] = field(default_factory=list)
    total_s: list[float] = field(default_factory=list)
    max_gap_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def flawless(self) -> bool:
        """True when nothing at all went wrong."""
        return not self.errors and self.incomplete == 0 and self.mismatched == 0


def repeat(target: Target, call: Call) -> Callable[[int], Sending]:
    """The same request each time, built once."""
    sending = Sending(target.request(call), call.stream)
    return lambda _: sending


class Run:
    """One load in progress: the requests left to send and the tally so far."""

    def __init__(self, target: Target, load: Load) -> None:
        self.target = target
        self.tally = Tally()
        self.settled = 0
        self.sent = 0
        self._load = load
        self._until_s = time.perf_counter() + load.sending_s

    def take(self) -> Sending | None:
        """The next request, or None when all are sent."""
        if self.sent >= self._load.requests or time.perf_counter() >= self._until_s:
            return None
        self.sent += 1
        return self._load.next_request(self.sent - 1)

    async def connection(self, number: int) -> None:
        """Keep one connection busy, and open another when it is lost, until nothing is left to send."""
        await asyncio.sleep(self._load.ramp_s * number / self._load.connections)
        loop = asyncio.get_running_loop()
        host, port = self.target.host, self.target.port
        while (sending := self.take()) is not None:
            try:
                _, caller = await loop.create_connection(partial(Caller, self, sending), host, port)
            except OSError:
                self.settled += 1
                self.tally.errors["refused"] += 1
                await asyncio.sleep(0.01)  # a gateway that is down is not to be hammered
                continue
            try:
                await caller.closed
            finally:
                caller.abort()


class Caller(asyncio.Protocol):
    """One connection of the load: sends, reads the answer, judges it, sends the next."""

    def __init__(self, run: Run, sending: Sending) -> None:
        self._run = run
        self._sending: Sending | None = sending
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._first_s: float | None = None
        self._sent_s = self._last_s = self._now_s = time.perf_counter()
        self._tail = b""
        self._tail_events = 0
        self._error_event = False
        self._answer: list[bytes] = []

    def abort(self) -> None:
        """Drop the connection, whatever it is waiting for."""
        self._sending = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's do not inherit from asyncio.Transport
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        assert self._sending is not None
        self._reset()
        self._transport.write(self._sending.request)

    def data_received(self, data: bytes) -> None:
        """Parse; what is not HTTP ends the connection."""
        self._now_s = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("not_http")
            self.abort()

    def _fail(self, word: str) -> None:
        if self._sending is None:
            return
        run = self._run
        run.settled += 1
        run.tally.errors[word] += 1
        run.tally.incomplete += self._sending.stream and self._status == 200

    def on_headers_complete(self) -> None:
        """The answer begins."""
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Part of the answer: count its events, and watch the clock."""
        sending = self._sending
        if self._status != 200 or sending is None:
            return
        if sending.expected is not None:
            self._answer.append(body)
        if not sending.stream:
            self._first_s = self._first_s or self._now_s
            return
        seen = self._tail + body
        events = seen.count(_EVENT)
        if events > self._tail_events:
            self._count(events - self._tail_events, _ERROR_EVENT in seen)
        self._tail = seen[-_TAIL_BYTES:]
        self._tail_events = self._tail.count(_EVENT)

    def _count(self, events: int, error_event: bool) -> None:
        tally, now_s = self._run.tally, self._now_s
        tally.chunks += events
        self._error_event |= error_event
        if self._first_s is None:
            self._first_s = now_s
        elif now_s - self._last_s > tally.max_gap_s:
            tally.max_gap_s = now_s - self._last_s
        self._last_s = now_s

    def on_message_complete(self) -> None:
        """The answer is whole: judge it and send the next request."""
        if 100 <= self._status < 200 or self._sending is None:
            return
        self._judge(self._sending)
        assert self._transport is not None
        if not self._parser.should_keep_alive():
            self._sending = None
            self._transport.close()
            return
        self._sending = self._run.take()
        if self._sending is None:
            self._transport.close()
        else:
            self._send()

    def _judge(self, sending: Sending) -> None:
        tally = self._run.tally
        self._run.settled += 1
        if self._status != 200:
            tally.errors[str(self._status)] += 1
            return
        done = self._tail.count(DONE_EVENT)
        if sending.stream:
            tally.chunks -= done
            tally.incomplete += done != 1
            if self._error_event:
                tally.errors["event"] += 1
        if sending.expected is not None and without_comments(b"".join(self._answer)) != sending.expected:
            tally.mismatched += 1
        if self._error_event or (sending.stream and done != 1):
            return
        tally.answered += 1
        tally.total_s.append(self._now_s - self._sent_s)
        if self._first_s is not None:
            tally.ttft_s.append(self._first_s - self._sent_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Judge what was under way."""
        self._fail("cut" if self._status else "closed")
        if not self.closed.done():
            self.closed.set_result(None)


async def drive(target: Target, load: Load) -> Tally:
    """Send all of `load` to `target` and tally what comes back."""
    run = Run(target, load)
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    try:
        async with asyncio.timeout(load.limit_s), asyncio.TaskGroup() as connections:
            for number in range(load.connections):
                connections.create_task(run.connection(number))
    except TimeoutError:
        run.tally.errors["timeout"] += max(1, run.sent - run.settled)
    run.tally.wall_s = time.perf_counter() - start_s
    run.tally.cpu_s = time.process_time() - start_cpu_s
    return run.tally
