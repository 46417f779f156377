"""One JSON line per request, written in batches from a thread so that a slow disk or pipe holds nothing up. Adapter."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.metering import NOT_YET, Record

FLUSH_S = 0.2
MAX_LINES = 100_000  # a writer that is stuck loses lines past this, and the loss is counted


class AccessLog:
    """Collects lines; `run` writes them.

    Args:
        write: takes a batch of whole lines; called in a worker thread.
        wall_offset_s: Unix time less the monotonic clock of the records.
    """

    def __init__(self, write: Callable[[bytes], Any], wall_offset_s: float) -> None:
        self._write = write
        self._offset_s = wall_offset_s
        self._lines: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode
        self.dropped = 0

    def add(self, record: Record) -> None:
        """Note a finished request. The record is the line; nothing else may use it afterwards."""
        if len(self._lines) >= MAX_LINES:
            self.dropped += 1
            return
        record.time = record.start_s + self._offset_s
        record.start_s = record.first_s = record.last_s = NOT_YET  # mean nothing outside this process
        record.events = 0
        self._lines.append(self._encode(record))

    async def run(self) -> None:
        """Write what has come, five times a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(FLUSH_S)
            if self._lines:
                await loop.run_in_executor(None, self._write, self._take())

    def flush(self) -> None:
        """Write what is left, now."""
        if self._lines:
            self._write(self._take())

    def _take(self) -> bytes:
        lines, self._lines = self._lines, []
        lines.append(b"")
        return b"\n".join(lines)
