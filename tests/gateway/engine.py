"""An engine that does what a test tells it: a real TCP server that notes requests and answers them by a script."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self, cast

LIMIT_S = 20.0  # how long any one thing may take in a test before it counts as never happening
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    """What came, byte for byte. `headers` have names in lower case."""

    head: bytes
    body: bytes
    headers: Headers = field(repr=False)

    @property
    def line(self) -> bytes:
        """The request line."""
        return self.head.partition(b"\r\n")[0]

    @property
    def named(self) -> dict[bytes, bytes]:
        """The last of each header."""
        return dict(self.headers)

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Exchange:
    """One request and the means to answer it. `gone` is set when the peer hangs up."""

    def __init__(self, peer: "_Peer", request: Request) -> None:
        self.request = request
        self.gone = peer.gone
        self.written_bytes = 0
        self._peer = peer

    async def write(self, data: bytes) -> None:
        """These bytes; returns when they have gone out of this process (so it blocks when nobody reads them)."""
        if self._peer.transport.is_closing():
            return
        self._peer.transport.write(data)
        await self._peer.writable.wait()
        self.written_bytes += len(data)

    async def head(self, status: int = 200, *headers: tuple[str, str]) -> None:
        """The head of an answer, no body."""
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{n}: {v}" for n, v in headers), "", ""]
        await self.write("\r\n".join(lines).encode())

    async def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        """A whole answer."""
        await self.head(status, ("content-length", str(len(body))), *headers)
        await self.write(body)

    async def stream(self, *pieces: bytes) -> None:
        """The head of an event stream, and an HTTP chunk for each piece."""
        await self.head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
        for piece in pieces:
            await self.chunk(piece)

    async def chunk(self, data: bytes) -> None:
        """One HTTP chunk, in one write."""
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The last chunk."""
        await self.write(b"0\r\n\r\n")

    async def until_gone(self) -> None:
        """Silence until the peer hangs up."""
        await asyncio.wait_for(self.gone.wait(), LIMIT_S)

    def close(self) -> None:
        """Close in order, after what is written."""
        self._peer.transport.close()

    def reset(self) -> None:
        """Cut the connection, with a reset."""
        sock = self._peer.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._peer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


class _Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, engine: "Engine") -> None:
        self.transport = cast("asyncio.Transport", None)
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._engine = engine
        self._buffer = bytearray()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._engine.connections += 1
        self._engine.open[self] = self._task = asyncio.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._more.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self.writable.set()
        self._more.set()

    def pause_writing(self) -> None:
        self.writable.clear()
        self._engine.blocked.set()

    def resume_writing(self) -> None:
        self.writable.set()

    async def _serve(self) -> None:
        try:
            while await self._serve_one():
                pass
        finally:
            self._engine.open.pop(self, None)

    async def _serve_one(self) -> bool:
        request = await self._request()
        if request is None:
            return False
        exchange = Exchange(self, request)
        self._engine.exchanges.append(exchange)
        self._engine.came.set()
        await self._engine.script(exchange)
        return True

    async def _request(self) -> Request | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not await self._read():
                return None
        head = bytes(self._buffer[: end + 4])
        headers = [
            (name.lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:-2])
        ]
        length = int(dict(headers).get(b"content-length", b"0"))
        while len(self._buffer) < len(head) + length:
            if not await self._read():
                return None
        body = bytes(self._buffer[len(head) : len(head) + length])
        del self._buffer[: len(head) + length]
        return Request(head, body, headers)

    async def _read(self) -> bool:
        self._more.clear()
        if self.gone.is_set():
            return False
        await self._more.wait()
        return True


class Engine:
    """Listens on a free port. `script` answers every request; it may be set anew at any time.

    Attributes:
        exchanges: in the order they came.
        connections: accepted so far.
        blocked: set once a write had to wait because the peer does not read.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.script: Script = script or whole()
        self.exchanges: list[Exchange] = []
        self.came = asyncio.Event()
        self.blocked = asyncio.Event()
        self.connections = 0
        self.open: dict[_Peer, asyncio.Task[None]] = {}
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """What came, in order."""
        return [e.request for e in self.exchanges]

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def listen(self) -> None:
        """Accept connections, on the same port as before if there was one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self.open.values())
        for peer, task in list(self.open.items()):
            peer.transport.abort()
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def close_idle(self) -> None:
        """Close every connection in order, as an engine does that has waited long enough for the next request."""
        for peer in list(self.open):
            peer.transport.close()

    async def exchange(self, number: int = 1) -> Exchange:
        """The `number`th exchange, once its request has come."""
        while len(self.exchanges) < number:
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), LIMIT_S)
        return self.exchanges[number - 1]


def whole(body: bytes = b'{"choices":[]}', status: int = 200, *headers: tuple[str, str]) -> Script:
    """A script that gives one whole answer."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body, *(headers or (("content-type", "application/json"),)))

    return script


def streaming(*pieces: bytes, end: bool = True) -> Script:
    """A script that streams these pieces, an HTTP chunk each."""

    async def script(exchange: Exchange) -> None:
        await exchange.stream(*pieces)
        if end:
            await exchange.end()

    return script


def raw(*pieces: bytes, close: bool = True) -> Script:
    """A script that writes these bytes, each after the other has had time to arrive, and closes."""

    async def script(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.write(piece)
            await asyncio.sleep(0.002)
        if close:
            exchange.close()

    return script


async def silent(exchange: Exchange) -> None:
    """A script that says nothing until the peer hangs up."""
    await exchange.until_gone()


async def resetting(exchange: Exchange) -> None:
    """A script that cuts the connection without a byte."""
    exchange.reset()


async def closing(exchange: Exchange) -> None:
    """A script that closes the connection without a byte."""
    exchange.close()


def in_turn(*scripts: Script) -> Script:
    """A script that takes these for one request after the other, and stays with the last."""
    left = list(scripts)

    async def script(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return script


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """The address of a port that refuses connections, and is nobody else's meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextlib.contextmanager
def unconnectable() -> Iterator[str]:
    """The address of a port where connecting neither succeeds nor fails: its queue is full and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
