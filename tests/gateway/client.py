"""A client that shows a test everything: one connection, answers taken apart as they come. No clocks."""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, Self, cast

import httptools

from tests.gateway.engine import LIMIT_S, Headers


class CutShort(Exception):
    """The connection ended before the answer was complete."""


class Answer:
    """One answer. `chunks` are the HTTP chunks (or the pieces) of the body."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.chunks: list[bytes] = []
        self.body = bytearray()
        self.complete = False

    @property
    def named(self) -> dict[bytes, bytes]:
        """The last of each header."""
        return dict(self.headers)

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What is under `error` in the body."""
        return cast("dict[str, Any]", self.json()["error"])

    @property
    def events(self) -> list[str]:
        """The data of each event; comments left out."""
        return payloads(bytes(self.body))

    @property
    def comments(self) -> int:
        """How many comments came."""
        return self.body.count(b": keep-alive\n\n")


def payloads(body: bytes) -> list[str]:
    """The data of each event in `body`, read as the SSE standard says."""
    found: list[str] = []
    for event in body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        if lines:
            found.append("\n".join(lines))
    return found


class Client(asyncio.Protocol):
    """One connection to a gateway. Leave it as a context manager."""

    def __init__(self) -> None:
        self.transport = cast("asyncio.Transport", None)
        self.answers: list[Answer] = []
        self.lost = False
        self.raw = bytearray()
        self._parser = httptools.HttpResponseParser(self)
        self._changed = asyncio.Event()

    @classmethod
    async def to(cls, port: int, *, receive_buffer_bytes: int | None = None) -> Self:
        """Connect. A small `receive_buffer_bytes` makes a client that is slow soon feel it."""
        sock = socket.socket()
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        _, client = await loop.create_connection(cls, sock=sock)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.transport.abort()

    def send(
        self,
        body: bytes | Mapping[str, Any],
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request and do not wait."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "host: gateway", f"content-length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + data)

    async def post(
        self,
        body: bytes | Mapping[str, Any],
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request, wait for the whole answer."""
        number = len(self.answers)
        self.send(body, path, headers)
        return await self.whole(number)

    async def get(self, path: str) -> Answer:
        """A GET, whole."""
        number = len(self.answers)
        self.transport.write(f"GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n".encode())
        return await self.whole(number)

    async def whole(self, number: int = -1) -> Answer:
        """An answer, complete.

        Raises:
            CutShort: the connection ended before.
        """
        await self.until(lambda: len(self.answers) > number and bool(self.answers) and self.answers[number].complete)
        return self.answers[number]

    async def sees(self, text: bytes) -> Answer:
        """The last answer, once `text` stands in its body."""
        await self.until(lambda: bool(self.answers) and text in self.answers[-1].body)
        return self.answers[-1]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something about the answers.

        Raises:
            CutShort: the connection ended before.
        """
        async with asyncio.timeout(LIMIT_S):
            while not true():
                if self.lost:
                    raise CutShort(bytes(self.raw[-200:]))
                self._changed.clear()
                await self._changed.wait()

    def hang_up(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def slow(self, *, slow: bool) -> None:
        """Stop reading, or go on."""
        if slow:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # -- asyncio and httptools call these ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if len(self.raw) < 65_536:
            self.raw += data
        self._parser.feed_data(data)
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._changed.set()

    def on_message_begin(self) -> None:
        self._answer = Answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        if self._answer.status >= 200:
            self.answers.append(self._answer)

    def on_body(self, body: bytes) -> None:
        self._answer.chunks.append(body)
        self._answer.body += body

    def on_message_complete(self) -> None:
        self._answer.complete = True
