"""Where an answer goes: the port the relay writes to, and its implementation over plain ASGI.

The fast implementation, on uvicorn's own transport, is `gateway/splice.py`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, Self

Headers = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
PAUSE_BYTES = 65_536


class ClientGone(Exception):
    """The client hung up."""


class Watcher(Protocol):
    """Who has to know what becomes of the client."""

    def client_gone(self) -> None:
        """The client hung up; called once, at once."""

    def client_slow(self, *, slow: bool) -> None:
        """The client does not take what is written as fast as it comes, or does again."""


class Sink(Protocol):
    """A client's side of one request. Nothing here waits: what a slow client does not take is the watcher's to stop.

    `started`: a head has been given.
    """

    @property
    def started(self) -> bool: ...

    def watch(self, watcher: Watcher) -> None:
        """From now on tell `watcher`; at once, if the client is gone already."""

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer."""

    def refuse(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer of the gateway's own."""

    def start(self, status: int, headers: Headers) -> None:
        """Begin a streamed answer."""

    def data(self, data: bytes) -> None:
        """Part of a streamed body."""

    def frame_writer(self) -> Callable[[bytes], object] | None:
        """Once data has been written: what takes a part of the body that is framed as one chunk already; None if
        frames have to be taken apart for this client.
        """

    def end(self) -> None:
        """The streamed body is complete."""

    def abort(self) -> None:
        """Break the answer off: the client must see that it is not complete."""


class AsgiSink:
    """Writes through ASGI `send`, from a task of its own; watches `receive` for the hang-up from another.

    Use as a context manager; leaving it waits until all has been sent.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self.started = False
        self._receive = receive
        self._send = send
        self._messages: deque[MutableMapping[str, Any]] = deque()
        self._queued_bytes = 0
        self._more = asyncio.Event()
        self._ended = False
        self._gone = False
        self._aborted = False
        self._watcher: Watcher | None = None
        self._listener: asyncio.Task[None] | None = None
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._pump = asyncio.create_task(self._run_pump())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._listener is not None:
            self._listener.cancel()
        if self._pump is None:
            return
        if kind is not None or not self.started:
            self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        if self._aborted:
            # ASGI has no other way to say that an answer is cut short: the server then drops the connection.
            raise ConnectionResetError("the engine's answer broke off")

    def watch(self, watcher: Watcher) -> None:
        """See Sink. Call once the request body has been read: from here on `receive` only tells the hang-up."""
        self._watcher = watcher
        if self._gone:
            watcher.client_gone()
        elif self._listener is None:
            self._listener = asyncio.create_task(self._listen())

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See Sink."""
        self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        self._put({"type": "http.response.body", "body": body, "more_body": False})
        self._ended = True

    refuse = respond

    def start(self, status: int, headers: Headers) -> None:
        """See Sink."""
        self.started = True
        self._put({"type": "http.response.start", "status": status, "headers": headers})

    def data(self, data: bytes) -> None:
        """See Sink."""
        self._put({"type": "http.response.body", "body": data, "more_body": True})

    def frame_writer(self) -> None:
        """See Sink: ASGI servers do the framing."""

    def end(self) -> None:
        """See Sink."""
        self._put({"type": "http.response.body", "body": b"", "more_body": False})
        self._ended = True

    def abort(self) -> None:
        """See Sink."""
        self._aborted = self._ended = True
        self._more.set()
        if self._queued_bytes > PAUSE_BYTES and self._pump is not None:
            self._pump.cancel()  # the client does not read; what is queued would wait for ever

    def _put(self, message: MutableMapping[str, Any]) -> None:
        self._messages.append(message)
        self._queued_bytes += len(message.get("body", b""))
        self._more.set()
        if self._queued_bytes > PAUSE_BYTES and self._watcher is not None:
            self._watcher.client_slow(slow=True)

    async def _run_pump(self) -> None:
        while True:
            while self._messages:
                message = self._messages.popleft()
                await self._send(message)
                before = self._queued_bytes
                self._queued_bytes -= len(message.get("body", b""))
                if before > PAUSE_BYTES >= self._queued_bytes and self._watcher is not None:
                    self._watcher.client_slow(slow=False)
            if self._ended or self._gone:
                return
            self._more.clear()
            await self._more.wait()

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._more.set()
        if self._watcher is not None and not self._ended:
            self._watcher.client_gone()
