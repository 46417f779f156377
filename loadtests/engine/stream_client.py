"""A closed-loop client for streamed chats that costs little itself, so that it measures the server and not
Python.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

_CONTENT = re.compile(rb'"(?:content|text)": ?"(?!")')
_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run of streams showed. Times in milliseconds; Tokens are those of the answers' usage."""

    requests: int
    tokens: int
    tokens_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    gap_p50_ms: float
    errors: int


@dataclass(slots=True)
class _Seen:
    left: int
    tokens: int = 0
    errors: int = 0
    requests: int = 0
    ttft_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)


async def measure(
    port: int, path: str, bodies: Sequence[Mapping[str, object]], connections: int, requests: int
) -> Figures:
    """`connections` clients at once, each sending `requests` streams one after another."""
    seen = _Seen(connections * requests)
    prepared = [_request(port, path, body) for body in bodies]
    loop = asyncio.get_running_loop()
    begun = perf_counter()
    ends = []
    for number in range(connections):
        end: asyncio.Future[None] = loop.create_future()
        ends.append(end)
        connection = partial(_Connection, prepared, number, seen, end)
        await loop.create_connection(connection, "127.0.0.1", port)
    await asyncio.wait_for(asyncio.gather(*ends), _TIMEOUT_S)
    return _figures(seen, perf_counter() - begun)


def _request(port: int, path: str, body: Mapping[str, object]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content


def _figures(seen: _Seen, wall_s: float) -> Figures:
    def percentile(values: list[float], share: float) -> float:
        ordered = sorted(values)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else float("nan")

    return Figures(
        seen.requests,
        seen.tokens,
        seen.tokens / wall_s,
        percentile(seen.ttft_s, 0.5),
        percentile(seen.ttft_s, 0.99),
        percentile(seen.gaps_s, 0.5),
        seen.errors,
    )


class _Connection(asyncio.Protocol):
    """Sends the next request when the last answer is complete. Takes no answer apart beyond what it
    counts.
    """

    def __init__(self, prepared: list[bytes], number: int, seen: _Seen, end: "asyncio.Future[None]") -> None:
        self._prepared, self._number, self._seen, self._end = prepared, number, seen, end
        self._transport: asyncio.Transport | None = None
        self._sent_s = self._last_s = 0.0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport
        self._next()

    def connection_lost(self, _: Exception | None) -> None:
        if not self._end.done():
            self._seen.errors += 1
            self._end.set_result(None)

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        found = len(_CONTENT.findall(data))
        if found:
            if self._last_s:
                self._seen.gaps_s.append(now - self._last_s)
            else:
                self._seen.ttft_s.append(now - self._sent_s)
            self._last_s = now
        self._tail = (self._tail + data)[-2048:]
        if self._tail.endswith(b"0\r\n\r\n"):
            usage = _TOKENS.findall(self._tail)
            self._seen.tokens += int(usage[-1]) if usage else 0
            self._seen.requests += 1
            self._next()
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            self._seen.errors += 1
            self._finish()

    def _next(self) -> None:
        if self._seen.left <= 0:
            self._finish()
            return
        self._seen.left -= 1
        self._number += 1
        self._tail, self._last_s, self._sent_s = b"", 0.0, perf_counter()
        assert self._transport is not None
        self._transport.write(self._prepared[self._number % len(self._prepared)])

    def _finish(self) -> None:
        if not self._end.done():
            self._end.set_result(None)
        assert self._transport is not None
        self._transport.close()
