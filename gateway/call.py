"""A client's request as the pipeline sees it, wherever it came from."""

import asyncio
from collections.abc import Callable, MutableMapping
from time import perf_counter
from typing import Any, Protocol, cast

from gateway.metering import Outcome, Record, outcome_of
from gateway.relay.delivery import Traits
from gateway.relay.headers import Headers, error_headers
from gateway.relay.sink import ClientGone, Receive, Sink
from gateway.request import InferenceRequest, Kind
from serving.errors import ApiError, BodyTimeout, BodyTooLarge, InvalidRequest

# The part of each path after /v1 or /openai/v1, and what is asked for there.
KINDS: dict[str, Kind] = {
    "/chat/completions": "chat",
    "/completions": "completion",
    "/embeddings": "embedding",
    "/rerank": "rerank",
    "/responses": "response",
}
HOT_PATHS: dict[str, tuple[Kind, bytes]] = {
    prefix + path: (kind, b"/v1" + path.encode()) for prefix in ("/v1", "/openai/v1") for path, kind in KINDS.items()
}
HAS_USAGE_CHUNK = frozenset(("chat", "completion"))
WHOLE = Traits(stream=False, strip_usage=False, openai_done=True)
EVENTS = Traits(stream=True, strip_usage=False, openai_done=False)
CHUNKS = Traits(stream=True, strip_usage=False, openai_done=True)
CHUNKS_LESS_USAGE = Traits(stream=True, strip_usage=True, openai_done=True)


class WholeBody(Protocol):
    """What a server may give to spare us the messages of a body that has come whole already."""

    def take_body(self) -> bytes | None:
        """The body, or None if more of it is to come."""


class Call:
    """One HTTP request for inference.

    Args:
        scope, receive: ASGI's.
        kind: what is asked for.
        target: the engine's path for it.
        record: its meter.
        body_s: how long the body may take to arrive, seconds.
        extra_headers: what every answer to it carries (request id, CORS).
    """

    __slots__ = (
        "_body_s",
        "_receive",
        "_whole",
        "extra_headers",
        "headers",
        "kind",
        "named",
        "record",
        "target",
    )

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        kind: Kind,
        target: bytes,
        named: dict[bytes, bytes],
        record: Record,
        body_s: float,
        extra_headers: Headers,
        whole: WholeBody | None,
    ) -> None:
        self.headers: Headers = scope["headers"]
        self.kind = kind
        query = scope["query_string"]
        self.target = b"%b?%b" % (target, query) if query else target
        self.named = named
        self.record = record
        self.extra_headers = extra_headers
        self._receive = receive
        self._body_s = body_s
        self._whole = whole

    @property
    def authorization(self) -> bytes | None:
        """The Authorization header as it came."""
        return self.named.get(b"authorization")

    @property
    def has_usage_chunk(self) -> bool:
        """Whether a stream of this kind can end with a usage chunk."""
        return self.kind in HAS_USAGE_CHUNK

    def traits(self, request: InferenceRequest) -> Traits:
        """How its answer is relayed."""
        if request.stream is not True:
            return WHOLE
        if self.kind not in HAS_USAGE_CHUNK:
            return EVENTS
        return CHUNKS if request.wants_usage else CHUNKS_LESS_USAGE

    def translate(self, body: bytes) -> bytes:
        """The body as an OpenAI request."""
        return body

    async def body(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: over `limit` bytes.
            BodyTimeout: not here within `body_s`.
            InvalidRequest: compressed.
            ClientGone: the client hung up.
        """
        named = self.named
        if int(named.get(b"content-length", b"0")) > limit:
            raise _too_large(limit)
        if b"content-encoding" in named and named[b"content-encoding"].lower() != b"identity":
            raise InvalidRequest("Compressed request bodies are not supported; send the JSON as it is.")
        if self._whole is not None and (body := self._whole.take_body()) is not None:
            return body
        try:
            async with asyncio.timeout(self._body_s):
                body = await self._read(limit)
        except TimeoutError:
            raise BodyTimeout(f"The request body did not arrive within {self._body_s:g} s.") from None
        if self._whole is not None:
            self._whole.take_body()  # nothing is left; but asked for it, the server reads on and hears a hang-up
        return body

    async def _read(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = cast("bytes", message.get("body", b""))
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def refuse(self, sink: Sink, error: ApiError) -> None:
        """Answer with an error instead."""
        if sink.started:
            sink.abort()
            return
        self.record.status, body = self.render(error)
        self.record.error_code = error.code
        self.record.outcome = Outcome.INTERNAL_ERROR if error.status == 500 else outcome_of(error.status)
        headers = error_headers(error) + self.extra_headers
        if isinstance(error, BodyTooLarge | BodyTimeout):
            headers.append((b"connection", b"close"))  # the rest of the body is not worth reading
        sink.refuse(self.record.status, headers, body)

    def sink(self, sink: Sink) -> Sink:
        """The sink as the relay is to see it."""
        return sink

    def render(self, error: ApiError) -> tuple[int, bytes]:
        """Status and body of an error answer."""
        return error.status, error.body()

    clock: Callable[[], float] = staticmethod(perf_counter)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than the limit of {limit} bytes.")
