"""An engine that trusts nobody: it reads requests by the letter of RFC 9112 and notes every byte that is out of place.

What it answers is said in the request's own body, which the gateway passes on untouched: `"hold": true` waits for
`release()` (a stream first sends one event), `"stream": true` sends three events. A plain answer tells the length and
the hash of the body received, so that a client can check where the gateway saw its end.
"""

import asyncio
import hashlib
import json
import re
from dataclasses import dataclass
from typing import cast

REQUEST_LINE = re.compile(rb"POST /v1/[a-z/]+(\?[!-~]*)? HTTP/1\.1")
HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9a-z-]+): ?([\t -~\x80-\xff]*)")
NOT_FOR_ENGINES = (b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te", b"trailer", b"http2-settings")
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word%d"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, as it came."""

    request_id: str
    head: bytes
    body: bytes


class EdgeEngine:
    """Listens on a free port of 127.0.0.1. `seen`: whole requests in order; `violations`: what no engine should see."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self.running: set[_Connection] = set()
        self.held = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Returns when it listens."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def release(self) -> None:
        """Let every answer that is held go on."""
        self.held.set()
        self.held = asyncio.Event()

    async def stop(self) -> None:
        """Close the listener."""
        if self._server is not None:
            self._server.close()


class _Connection(asyncio.Protocol):
    def __init__(self, engine: EdgeEngine) -> None:
        self.engine = engine
        self.buffer = b""
        self.answer: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.answer is not None:
            self.engine.violations.append(f"bytes after the request: {data[:200]!r}")
            return
        head, mark, rest = self.buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        length = self._length(head)
        if len(rest) < length:
            return
        if len(rest) > length:
            self.engine.violations.append(f"bytes past the body: {rest[length:][:200]!r}")
        self.buffer = b""
        request_id = re.search(rb"\r\nx-request-id: ([ -~]*)", head)
        self.engine.seen.append(Seen(request_id[1].decode() if request_id else "", head, rest[:length]))
        self.answer = asyncio.get_running_loop().create_task(self._answer(rest[:length]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.engine.running.discard(self)
        if self.answer is not None:
            self.answer.cancel()

    def _length(self, head: bytes) -> int:
        first, *lines = head.split(b"\r\n")
        if not REQUEST_LINE.fullmatch(first):
            self.engine.violations.append(f"request line: {first!r}")
        named: dict[bytes, bytes] = {}
        for line in lines:
            match = HEADER_LINE.fullmatch(line)
            if not match:
                self.engine.violations.append(f"header line: {line!r}")
                continue
            name, value = match[1], match[2]
            if name in named and name in (b"host", b"content-length", b"x-request-id"):
                self.engine.violations.append(f"second {name!r}: {line!r}")
            if name in NOT_FOR_ENGINES:
                self.engine.violations.append(f"hop-by-hop header: {line!r}")
            named[name] = value
        if not named.get(b"content-length", b"").isdigit():
            self.engine.violations.append(f"no length: {head[:200]!r}")
            return 0
        return int(named[b"content-length"])

    async def _answer(self, body: bytes) -> None:
        self.engine.running.add(self)
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):  # the gateway does not read what it does not need
            asked = {}
        if asked.get("stream") is True:
            await self._stream(hold=bool(asked.get("hold")))
        else:
            if asked.get("hold"):
                await self.engine.held.wait()
            said = {"body_bytes": len(body), "body_sha256": hashlib.sha256(body).hexdigest()}
            text = json.dumps(said).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text)
            )
        self.engine.running.discard(self)
        self.answer = None

    async def _stream(self, *, hold: bool) -> None:
        write = self.transport.write
        write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(3):
            write(_chunk(EVENT % number))
            if hold and number == 0:
                await self.engine.held.wait()
            await asyncio.sleep(0)
        write(_chunk(DONE) + b"0\r\n\r\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
