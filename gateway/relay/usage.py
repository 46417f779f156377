"""Token counts and errors as engines write them, read into one shape. Pure."""

from typing import Any

import msgspec
from msgspec import Struct

from serving.errors import ErrorBody, ErrorEnvelope


class Usage(Struct, frozen=True):
    """`usage` as chat completions write it (prompt, completion) or as responses do (input, output). Tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def tokens_in(self) -> int:
        """Prompt tokens."""
        return self.prompt_tokens or self.input_tokens or 0

    @property
    def tokens_out(self) -> int:
        """Generated tokens."""
        return self.completion_tokens or self.output_tokens or 0


class _Answer(Struct):
    usage: Usage | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)


def usage_of(body: bytes) -> Usage | None:
    """Pure. The token counts in a non-streamed answer; None where it has none or is not JSON."""
    if body.rfind(b'"usage"') < 0:
        return None
    try:
        return _answer_decoder.decode(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def normalise_error(payload: bytes) -> bytes:
    """Pure. An engine's error, in whatever shape, as the OpenAI-shaped body `{"error": {...}}`.

    Known shapes: `{"error": {"message", "type", "param", "code"}}` (returned as it is), `{"error": "text"}` and
    `{"object": "error", "message": ..., "type": ..., "code": ...}`.
    """
    whole: Any = msgspec.json.decode(payload)
    given = whole.get("error") or whole
    if isinstance(given, dict) and given is not whole and isinstance(given.get("message"), str):
        missing = {"type": "api_error", "param": None, "code": None}
        return msgspec.json.encode({"error": missing | given})
    if isinstance(given, dict):
        message = str(given.get("message") or payload.decode())
        kind, code = str(given.get("type") or "api_error"), given.get("code")
    else:
        message, kind, code = str(given), "api_error", None
    shaped = ErrorBody(message, kind if kind != "error" else "api_error", None, None if code is None else str(code))
    return msgspec.json.encode(ErrorEnvelope(shaped))
