"""What happens to a token: from the engine's socket to the client's, in one call."""

import asyncio
from collections.abc import Callable

from gateway.relay.sse import FRAMED_OBJECT_ENDS
from gateway.upstream.connection import Connection

# The length of a whole chunk by its first four bytes, for chunks of 16 to 4,095 bytes: size, CRLF, body, CRLF. One look
# into a dict costs a third of finding the CRLF and parsing the size.
FRAME_BYTES = {
    (f"{size:{form}}\r\n".encode())[:4]: len(f"{size:x}") + 4 + size for size in range(16, 4096) for form in "xX"
}


class Steady(asyncio.Protocol):
    """Takes a connection's reads while a stream is in its middle and the parser stands between two chunks.

    A read that is one whole chunk with whole events in it, and nothing that has to be looked at, goes on as it came.
    Any other gives the connection back to itself first. What `sse.needs_look` asks is written out here, because this
    runs for every token: `find` costs half of `in`, and a chunk that ends with an object does not end with [DONE].

    Attributes:
        frames: chunks that went on as they came, an event each.
    """

    __slots__ = ("_connection", "_write", "frames")

    def __init__(self, connection: Connection, write: Callable[[bytes], object]) -> None:
        self._connection = connection
        self._write = write
        self.frames = 0

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if (
            FRAME_BYTES.get(data[:4]) == len(data)
            and data.endswith(FRAMED_OBJECT_ENDS)
            and data.find(b'_tokens"') < 0
            and data.find(b'"error"') < 0
        ):
            self.frames += 1
            self._write(data)
        else:
            self._connection.take_back()
            self._connection.data_received(data)

    def eof_received(self) -> bool:
        """Called by the loop."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._connection.connection_lost(exc)
