"""Asking an engine whether it is well: one GET, on a connection of its own."""

import asyncio
import contextlib

from engines.launch import Probe

HOST = "127.0.0.1"


async def answers(port: int, probe: Probe) -> bool:
    """Whether the probe's path answers 2xx or 3xx within its time."""
    status = await _status(port, probe)
    return status is not None and 200 <= status < 400


async def _status(port: int, probe: Probe) -> int | None:
    writer = None
    try:
        async with asyncio.timeout(probe.timeout_s):
            reader, writer = await asyncio.open_connection(HOST, port)
            head = f"GET {probe.path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode("ascii"))
            return _status_of(await reader.readline())
    except (OSError, TimeoutError, ValueError):
        return None
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _status_of(line: bytes) -> int | None:
    parts = line.split(None, 2)
    known = len(parts) >= 2 and parts[0].startswith(b"HTTP/1.") and parts[1].isdigit()
    return int(parts[1]) if known else None
