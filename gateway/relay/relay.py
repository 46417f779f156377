"""One request's way to an engine and the answer's way back. Callbacks only: nothing here waits for a chunk."""

import asyncio
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

from gateway.metering import Outcome, Record, outcome_of
from gateway.relay.delivery import Delivery, Traits
from gateway.relay.headers import is_event_stream, without_hop_by_hop
from gateway.relay.patience import Due, Patience, Wait, judge
from gateway.relay.sink import Headers, Sink
from gateway.relay.sse import DONE, EventScanner
from gateway.relay.steady import Steady
from gateway.relay.usage import usage_of
from gateway.routing.attempts import Failed
from gateway.upstream.connection import Connection
from serving.errors import ApiError, EngineBroken, EngineTimeout, EngineUnreachable, Overloaded

BUFFER_BYTES = 8 * 1024 * 1024  # an answer longer than this is passed on as it comes, and not metered
RETRY_STATUSES = frozenset((429, 502, 503, 504))


class Relay:
    """Carries one request, over several attempts if need be. Implements the connection's `Listener` and the sink's
    `Watcher`. `over` once the client has its answer or has gone.
    """

    __slots__ = (
        "_answer",
        "_answer_bytes",
        "_attempt",
        "_comment_s",
        "_connecting",
        "_connection",
        "_delivery",
        "_frames_seen",
        "_headers",
        "_may_retry",
        "_patience",
        "_record",
        "_scanner",
        "_sent_s",
        "_sink",
        "_slow",
        "_status",
        "_steady",
        "_through",
        "_traits",
        "over",
    )

    def __init__(self, sink: Sink, record: Record, patience: Patience, traits: Traits, extra: Headers) -> None:
        self._sink = sink
        self._record = record
        self._patience = patience
        self._traits = traits
        self._delivery = Delivery(sink, record, extra)
        self._connecting: asyncio.Task[Connection] | None = None
        self._connection: Connection | None = None
        self._attempt: asyncio.Future[Failed | None] | None = None
        self._scanner: EventScanner | None = None
        self._answer: list[bytes] = []
        self._answer_bytes = 0
        self._headers: Headers = []
        self._status = 0
        self._through = False  # the body is passed on as it comes, unread
        self._steady: Steady | None = None
        self._frames_seen = 0  # that `_steady` had passed on at the last check
        self._may_retry = True
        self._slow = False
        self._sent_s = 0.0
        self._comment_s = record.start_s
        self.over = False
        sink.watch(self)

    async def unless_gone(self, connecting: Coroutine[Any, Any, Connection]) -> Connection | None:
        """A connection, once there is one; None as soon as the client leaves.

        Raises:
            ApiError: see Pool.connect.
        """
        if self.over:
            connecting.close()
            return None
        self._connecting = task = asyncio.create_task(connecting)
        try:
            return await task
        except asyncio.CancelledError:
            if (me := asyncio.current_task()) is not None and me.cancelling():
                raise  # it is not the client that left
            return None
        finally:
            self._connecting = None

    async def attempt(self, connection: Connection, head: bytes, body: bytes) -> Failed | None:
        """Send a request; None when the relay is over, else why nothing has gone to the client.

        An answer that says "not now" is a failure too, kept for the case that no other endpoint does better.
        """
        self._connection = connection
        self._scanner = None
        self._steady = None
        self._answer = []
        self._answer_bytes = 0
        self._status = 0
        self._sent_s = perf_counter()
        attempt: asyncio.Future[Failed | None] = asyncio.get_running_loop().create_future()
        self._attempt = attempt
        connection.send(head, body, self)
        return await attempt

    # -- Listener --------------------------------------------------------------------------------------------------

    def on_head(self, status: int, headers: Headers) -> None:
        """The head is kept until there is a body to go with it: until then another engine can still answer."""
        self._status = status
        named = dict(headers)
        self._headers = without_hop_by_hop(headers, named)
        if status == 200 and is_event_stream(named):
            self._scanner = EventScanner(strip_usage=self._traits.strip_usage)

    def on_body(self, data: bytes) -> None:
        """See Listener."""
        scanner = self._scanner
        if scanner is None:
            self._collect(data)
            return
        out = scanner.feed(data)
        if scanner.content:
            self._note_content()
        if out:
            self._part(out)
        if scanner.error is not None:
            self._broke_off()
        elif scanner.steady:
            self._let_run()

    def _let_run(self) -> None:
        """The stream is in its middle: until something else comes, its chunks need not come by here."""
        connection = self._connection
        if connection is None or not connection.between_frames:
            return
        if self._steady is None:
            write = self._sink.frame_writer()
            if write is None:
                return
            self._steady = Steady(connection, write)
        connection.hand_over(self._steady)

    def on_end(self) -> None:
        """See Listener."""
        connection, self._connection = self._connection, None
        scanner = self._scanner
        if scanner is None:
            self._give_answer()
            return
        out = scanner.finish()
        if scanner.content:
            self._note_content()
        missing = self._traits.openai_done and not scanner.done
        if missing and connection is not None and connection.ended_by_close:
            if out:
                self._part(out)
            self._lose("the connection was closed before [DONE]", stale=False)
            return
        if missing:
            out += DONE
        if out:
            self._part(out)
        if scanner.error is not None:
            self._broke_off()
            return
        self._end_stream()

    def on_lost(self, reason: str, *, fresh: bool) -> None:
        """See Listener."""
        self._connection = None
        self._lose(reason, stale=not fresh and self._status == 0)

    def _lose(self, reason: str, *, stale: bool) -> None:
        if self._delivery.begun:
            self._break_stream(
                EngineBroken(f"The engine broke off in the middle of its answer: {reason}."),
                Outcome.ENGINE_ERROR,
            )
            return
        kind = EngineBroken if self._status else EngineUnreachable
        where = self._record.endpoint
        self._settle_attempt(
            Failed(kind(f"The engine at {where} dropped the request before it answered: {reason}."), stale=stale)
        )

    def _note_content(self) -> None:
        self._record.last_s = now = perf_counter()
        if not self._record.first_s:
            self._record.first_s = now

    # -- Watcher ---------------------------------------------------------------------------------------------------

    def client_gone(self) -> None:
        """See Watcher: the engine's connection is dropped at once, and so its work."""
        if self.over:
            return
        if self._scanner is None or not self._scanner.done:  # else it has read [DONE], and need not stay for more
            self._record.outcome = Outcome.CLIENT_CLOSED
        self._drop_connection()
        self._finish()
        if self._connecting is not None:
            self._connecting.cancel()

    def client_slow(self, *, slow: bool) -> None:
        """See Watcher."""
        self._slow = slow
        if self._connection is not None:
            transport = self._connection.transport
            if slow:
                transport.pause_reading()
            else:
                self._record.last_s = perf_counter()
                transport.resume_reading()

    # -- time ------------------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Called a few times a second: time-outs and keep-alive comments. `now` on perf_counter's clock."""
        if self.over:
            return
        steady = self._steady
        if steady is not None and steady.frames != self._frames_seen:
            self._frames_seen = steady.frames
            self._record.last_s = now
        due, reason = judge(self._patience, self._wait(), now)
        if due is Due.COMMENT:
            self._comment_s = now
            self._delivery.comment()
        elif due is Due.END:
            self._drop_connection()
            self._end_stream()
        elif due is Due.GIVE_UP:
            self._give_up(reason)

    def _wait(self) -> Wait:
        record, scanner = self._record, self._scanner
        return Wait(
            record.start_s,
            self._sent_s if self._attempt is not None else None,
            record.last_s if record.first_s or self._through else None,
            self._comment_s if self._traits.stream else None,
            scanner is not None and scanner.done,
        )

    def _give_up(self, reason: str) -> None:
        self._drop_connection()
        error = EngineTimeout(reason)
        if not self._delivery.begun:
            self._settle_attempt(Failed(error, elsewhere=False))
        elif self._slow:  # it is the client that takes nothing, and would not take an error either
            self._record.outcome = Outcome.CLIENT_CLOSED
            self._delivery.abort()
            self._finish()
        else:
            self._break_stream(error, Outcome.TIMEOUT)

    # -- answers ---------------------------------------------------------------------------------------------------

    def fail(self, error: ApiError, outcome: Outcome) -> None:
        """Tell the client that there will be no answer."""
        if self.over:
            return
        if self._delivery.begun:
            self._break_stream(error, outcome)
            return
        self._record.outcome = outcome
        self._delivery.error(error)
        self._finish()

    def pass_on(self) -> None:
        """Give the client the kept answer of the last attempt, an engine's own "not now"."""
        self._may_retry = False
        self._give_answer()

    def abandon(self, error: ApiError) -> None:
        """The gateway itself gives up."""
        self._drop_connection()
        self.fail(error, Outcome.INTERNAL_ERROR)

    def _part(self, data: bytes) -> None:
        self._delivery.part(self._status, self._headers, data)

    def _collect(self, data: bytes) -> None:
        if self._through:
            self._record.last_s = perf_counter()
            self._part(data)
            return
        self._answer.append(data)
        self._answer_bytes += len(data)
        if self._answer_bytes > BUFFER_BYTES and not self._delivery.started:
            self._through = True
            self._record.last_s = perf_counter()
            self._part(b"".join(self._answer))
            self._answer = []

    def _give_answer(self) -> None:
        """A whole answer, not a stream of events, has come."""
        status, record = self._status, self._record
        if self._may_retry and status in RETRY_STATUSES and not self._through:
            self._settle_attempt(Failed(Overloaded(f"The engine answered {status}."), answered=True))
            return
        body = b"".join(self._answer)
        if status >= 400:
            record.outcome = outcome_of(status)
            record.error_code = f"engine_{status}"
        elif (usage := usage_of(body)) is not None:
            record.tokens_in, record.tokens_out = usage.tokens_in, usage.tokens_out
        if self._through:
            self._end_stream()
        else:
            self._delivery.whole(status, self._headers, body)
            self._finish()

    def _break_stream(self, error: ApiError, outcome: Outcome) -> None:
        scanner = self._scanner
        if scanner is not None and scanner.done:  # what is missing is not part of the answer
            self._end_stream()
            return
        self._record.outcome = outcome
        if self._through or (scanner is not None and scanner.cut):
            self._record.error_code = error.code
            self._delivery.abort()
        else:
            self._delivery.error(error)
        self._finish()

    def _broke_off(self) -> None:
        """The engine has said in the stream that it failed, and the client has been told."""
        self._record.outcome = Outcome.ENGINE_ERROR
        self._record.error_code = "stream_error"
        self._drop_connection()
        self._end_stream()

    def _end_stream(self) -> None:
        self._delivery.end(self._status, self._headers)
        self._finish()

    def _account(self) -> None:
        scanner, record = self._scanner, self._record
        if scanner is not None:
            frames = 0 if self._steady is None else self._steady.frames
            if frames != self._frames_seen:
                record.last_s = perf_counter()
            record.events = scanner.events + frames
            if scanner.usage is not None:
                record.tokens_in, record.tokens_out = scanner.usage.tokens_in, scanner.usage.tokens_out

    def _finish(self) -> None:
        self.over = True
        self._account()
        if self._record.outcome is None:
            self._record.outcome = Outcome.OK
        self._settle_attempt(None)

    def _settle_attempt(self, result: Failed | None) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.set_result(result)

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
