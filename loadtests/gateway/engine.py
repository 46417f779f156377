"""A stand-in for an engine: an OpenAI-compatible server that costs little, paces its chunks and keeps count.

    python -m loadtests.gateway.engine --port 19000 --gap-ms 20 --chunk-bytes 230

It streams `max_tokens` events, one every gap; before them, at once, the event with the assistant's role. When
the connection is lost it stops at once, and counts that as cancelled. `GET /stats` answers its `Stats`.
"""

import argparse
import asyncio
import sys

import httptools
import msgspec
import uvloop

from loadtests.gateway.answer import FAILURE, Answer, Engine, reply
from loadtests.gateway.transcript import DEFAULT_CHUNK_BYTES, MIN_CHUNK_BYTES, MODEL, Ask

_ASK = msgspec.json.Decoder(Ask)
_MODELS = msgspec.json.encode(
    {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "bench"}]}
)
# The routers of SGLang and vLLM ask for these before they send anything.
_SERVER_INFO = msgspec.json.encode({"model_path": MODEL, "served_model_name": MODEL, "model_id": MODEL})


class EngineProtocol(asyncio.Protocol):
    """One connection to the stand-in. Requests on it come one after another; pipelining closes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._url = b""
        self._body: list[bytes] = []
        self._answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to write to."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's do not inherit from asyncio.Transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the answer in progress."""
        if self._answer is not None:
            self._answer.cancel()

    def pause_writing(self) -> None:
        """Hold the answer back."""
        if self._answer is not None:
            self._answer.pause()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        if self._answer is not None:
            self._answer.resume()

    def data_received(self, data: bytes) -> None:
        """Parse; what is not HTTP closes the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._body = []

    def on_url(self, url: bytes) -> None:
        """Part of the request's target."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """Part of the request's body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is whole: answer it."""
        if self._answer is not None and not self._answer.over:
            self._transport.close()
        elif self._url.endswith(b"completions"):
            self._complete(b"".join(self._body))
        elif self._url == b"/stats":
            self._transport.write(reply(msgspec.json.encode(self._engine.stats)))
        elif b"models" in self._url:
            self._transport.write(reply(_MODELS))
        else:
            self._transport.write(reply(_SERVER_INFO))

    def _complete(self, body: bytes) -> None:
        try:
            ask = _ASK.decode(body)
        except msgspec.DecodeError:
            self._transport.write(reply(FAILURE, b"400 Bad Request"))
            return
        self._answer = Answer(ask, self._engine, self._transport)


async def listen(engine: Engine, port: int = 0) -> asyncio.Server:
    """A stand-in that listens on 127.0.0.1; port 0 takes a free one."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: EngineProtocol(engine), "127.0.0.1", port, backlog=4096)


async def serve(engine: Engine, port: int) -> None:
    """Listen until cancelled, and print the port as the first line."""
    server = await listen(engine, port)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Run one stand-in."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.gateway.engine", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--gap-ms", type=float, default=20.0, help="between tokens; 0 is back to back")
    parser.add_argument("--chunk-bytes", type=int, default=DEFAULT_CHUNK_BYTES, help="length of one event")
    options = parser.parse_args()
    if options.chunk_bytes < MIN_CHUNK_BYTES:
        parser.error(f"--chunk-bytes: the least is {MIN_CHUNK_BYTES}")
    uvloop.run(serve(Engine(options.gap_ms / 1000, options.chunk_bytes), options.port))


if __name__ == "__main__":
    main()
