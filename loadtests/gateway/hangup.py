"""Clients that hang up: before the first byte, in mid-stream, and while a whole answer is awaited."""

import asyncio
import socket
import struct
from collections import Counter
from enum import StrEnum

from loadtests.gateway.load import Target
from loadtests.gateway.transcript import Call, StandIn

# The engine answers long after the client has gone, so that only a hang-up can end the request.
_SLOW = StandIn(first_byte_s=20.0)
_ENDLESS = StandIn(gap_s=0.02)
_PATIENCE_S = 0.1  # long enough on a busy machine for the request to have reached the engine
_STREAM_LIMIT_S = 30.0


class Phase(StrEnum):
    """Where in its request the client leaves."""

    BEFORE_FIRST_BYTE = "before-first-byte"
    MID_STREAM = "mid-stream"
    WHOLE_ANSWER = "whole-answer"


_CALLS = {
    Phase.BEFORE_FIRST_BYTE: Call(1000, stream=True, stand_in=_SLOW),
    Phase.MID_STREAM: Call(1000, stream=True, stand_in=_ENDLESS),
    Phase.WHOLE_ANSWER: Call(1000, stand_in=_SLOW),
}


async def hang_up(target: Target, count: int, connections: int) -> Counter[str]:
    """Send `count` requests on as many connections, `connections` at once, and leave each unanswered.

    The three phases take turns, and so do a polite close and a reset. Returns how many left in each phase,
    and under `failed` how many could not: the connection was refused, or the answer came or ended early.
    """
    left: Counter[str] = Counter()
    requests = {phase: target.request(call) for phase, call in _CALLS.items()}
    numbers = iter(range(count))

    async def leave_again_and_again() -> None:
        for number in numbers:
            phase = list(Phase)[number % len(Phase)]
            try:
                await _leave(target, phase, requests[phase], reset=number % 2 == 0)
                left[phase] += 1
            except (OSError, EOFError, TimeoutError):
                left["failed"] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(connections, count)):
            tasks.create_task(leave_again_and_again())
    return left


async def _leave(target: Target, phase: Phase, request: bytes, *, reset: bool) -> None:
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        writer.write(request)
        if phase is Phase.MID_STREAM:
            async with asyncio.timeout(_STREAM_LIMIT_S):
                await reader.readuntil(b"data:")
                await reader.readuntil(b"data:")
        elif await _anything(reader):
            raise EOFError("an answer where there should be none yet")
    finally:
        if reset:
            _reset(writer)
        else:
            writer.close()


async def _anything(reader: asyncio.StreamReader) -> bool:
    """True when bytes or the end of the connection come within the client's patience."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await reader.read(1)
    except TimeoutError:
        return False
    return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, as a client that crashes does."""
    linger_none = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
    writer.transport.abort()
