"""What the stand-in engine says, byte for byte, and what a client sends to have it said. Pure.

The engine and the checks share this file: a check compares with what was sent, not with a second opinion.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import msgspec

MODEL = "m"
PROMPT_TOKENS = 10
DEFAULT_CHUNK_BYTES = 230
DONE_EVENT = b"data: [DONE]\n\n"
ERROR_EVENT = b'data: {"error":{"message":"out of blocks","type":"api_error","param":null,"code":"kv_full"}}\n\n'

_ENVELOPE = (
    b'data: {"id":"chatcmpl-3f2b1c0d9e8f4a5b9c7d6e5f4a3b2c1d","object":"chat.completion.chunk",'
    b'"created":1760000000,"model":"m","choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
)
_USAGE = (
    b'data: {"id":"chatcmpl-3f2b1c0d9e8f4a5b9c7d6e5f4a3b2c1d","object":"chat.completion.chunk",'
    b'"created":1760000000,"model":"m","choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
FIRST_EVENT = _ENVELOPE % (b'{"role":"assistant","content":""}', b"null")
LAST_EVENT = _ENVELOPE % (b"{}", b'"stop"')
_TEXT_DELTA = b'{"content":"%s"}'
_EMPTY_BYTES = len(_ENVELOPE % (_TEXT_DELTA % b"", b"null"))
# Characters of one, two, three and four bytes: a relay that cuts or re-encodes text cannot pass unnoticed.
_FILLER = " token é € 🚰".encode()
_MARK_BYTES = 16  # seed and index in hexadecimal, for up to 4 billion seeds and 100 million tokens
MIN_CHUNK_BYTES = _EMPTY_BYTES + _MARK_BYTES


class Fault(StrEnum):
    """A way for the stand-in to misbehave, asked for by the request."""

    NONE = "none"
    ERROR_STATUS = "error_status"  # 500 with an OpenAI error body
    ERROR_EVENT = "error_event"  # an error event in the middle of a 200 stream, which then ends properly
    NO_DONE = "no_done"  # the stream ends properly, without [DONE]
    CUT = "cut"  # the connection is closed in the middle of the answer


class StandIn(msgspec.Struct, frozen=True, omit_defaults=True):
    """Orders for the stand-in, under `stand_in` in the request. A gateway passes fields it does not know."""

    first_byte_s: float = 0.0
    gap_s: float | None = None
    fault: Fault = Fault.NONE


PLAIN = StandIn()


class StreamOptions(msgspec.Struct, frozen=True):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class Ask(msgspec.Struct, frozen=True):
    """The fields of a chat request that the stand-in acts on."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    seed: int | None = None
    stand_in: StandIn = PLAIN

    @property
    def tokens(self) -> int:
        """Tokens to answer with; 16 when the request does not say."""
        return self.max_tokens or self.max_completion_tokens or 16

    @property
    def wants_usage(self) -> bool:
        """True when the stream should end with a usage event."""
        return self.stream_options is not None and self.stream_options.include_usage


@cache
def filler(length_bytes: int) -> bytes:
    """Pure. Valid UTF-8 of exactly `length_bytes`."""
    text = (_FILLER * (length_bytes // len(_FILLER) + 1))[:length_bytes]
    whole = text.decode(errors="ignore").encode()
    return whole + b"." * (length_bytes - len(whole))


def text_event(seed: int, index: int, chunk_bytes: int) -> bytes:
    """Pure. The event of one token: `chunk_bytes` long, and unlike that of any other seed and index.

    Raises:
        ValueError: `chunk_bytes` is less than MIN_CHUNK_BYTES, or the seed is too long for it.
    """
    mark = b"%x.%x" % (seed, index)
    if chunk_bytes < MIN_CHUNK_BYTES or len(mark) > chunk_bytes - _EMPTY_BYTES:
        raise ValueError(f"a chunk of {chunk_bytes} bytes is too small; the least is {MIN_CHUNK_BYTES}")
    text = mark + filler(chunk_bytes - _EMPTY_BYTES - len(mark))
    return _ENVELOPE % (_TEXT_DELTA % text, b"null")


def closing_events(tokens: int, *, usage: bool) -> bytes:
    """Pure. Everything after the last token: the finish event, usage if asked for, and [DONE]."""
    counted = _USAGE % (PROMPT_TOKENS, tokens, PROMPT_TOKENS + tokens) if usage else b""
    return LAST_EVENT + counted + DONE_EVENT


def whole_stream(ask: Ask, chunk_bytes: int) -> bytes:
    """Pure. The complete body of a streamed answer to a request with a seed, without the framing of HTTP."""
    assert ask.seed is not None
    tokens = b"".join(text_event(ask.seed, index, chunk_bytes) for index in range(ask.tokens))
    return FIRST_EVENT + tokens + closing_events(ask.tokens, usage=ask.wants_usage)


def whole_answer(ask: Ask) -> bytes:
    """Pure. The body of an answer that is not streamed."""
    message = {"role": "assistant", "content": " token" * ask.tokens}
    return msgspec.json.encode(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1760000000,
            "model": MODEL,
            "system_fingerprint": None if ask.seed is None else f"{ask.seed:x}",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": ask.tokens,
                "total_tokens": PROMPT_TOKENS + ask.tokens,
            },
        }
    )


def without_comments(stream: bytes) -> bytes:
    """Pure. An event stream without its comments, which a gateway may add to keep a connection open."""
    if b"\n:" not in stream and not stream.startswith(b":"):
        return stream
    events = stream.split(b"\n\n")
    return b"\n\n".join(event for event in events if not event.startswith(b":"))


@dataclass(frozen=True, slots=True)
class Call:
    """A chat request to send. `prompt_chars` is the length of the user's message, in characters."""

    tokens: int
    stream: bool = False
    usage: bool = True
    prompt_chars: int = 400
    seed: int | None = None
    stand_in: StandIn = PLAIN

    def ask(self) -> Ask:
        """What the engine will understand of this call."""
        options = StreamOptions(include_usage=True) if self.stream and self.usage else None
        return Ask(
            max_tokens=self.tokens,
            stream=self.stream,
            stream_options=options,
            seed=self.seed,
            stand_in=self.stand_in,
        )

    def body(self) -> bytes:
        """The request body: JSON of an OpenAI chat completion."""
        words = "lorem ipsum dolor sit amet "
        prompt = (words * (self.prompt_chars // len(words) + 1))[: self.prompt_chars]
        request: dict[str, object] = {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "You are terse."},
                {"role": "user", "content": prompt},
            ],
            "max_tokens": self.tokens,
        }
        if self.stream:
            request["stream"] = True
            if self.usage:
                request["stream_options"] = {"include_usage": True}
        if self.seed is not None:
            request["seed"] = self.seed
        if self.stand_in != PLAIN:
            request["stand_in"] = self.stand_in
        return msgspec.json.encode(request)
