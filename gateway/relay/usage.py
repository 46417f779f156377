"""Token counts and errors as engines write them, read into one shape. Pure."""

from typing import Any

import msgspec
from msgspec import Struct

from serving.errors import ErrorBody, ErrorEnvelope

QUOTED_BYTES = 300  # of an error that is not understood


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


def normalise_error(payload: bytes, status: int | None = None) -> bytes:
    """Pure. An engine's error, in whatever shape, as the OpenAI-shaped body `{"error": {...}}`.

    Known shapes: `{"error": {"message", "type", "param", "code"}}` (kept, what is missing added), `{"error": "text"}`,
    `{"object": "error", "message": ..., "type": ..., "code": ...}` and `{"detail": "text"}`. Of anything else the
    text is quoted, with the HTTP `status` where there was one.
    """
    try:
        whole: Any = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = None
    given = whole.get("error") or whole if isinstance(whole, dict) else whole
    if not isinstance(given, dict):
        message = given if isinstance(given, str) and given else _quoted(payload, status)
        return msgspec.json.encode(ErrorEnvelope(ErrorBody(message, "api_error", None, None)))
    named = given.get("message") or given.get("detail")
    message = named if isinstance(named, str) else _quoted(payload, status)
    if given is not whole:
        return msgspec.json.encode(
            {"error": {"type": "api_error", "param": None, "code": None} | given | {"message": message}}
        )
    kind, code = given.get("type"), given.get("code")
    kind = kind if isinstance(kind, str) and kind != "error" else "api_error"
    return msgspec.json.encode(ErrorEnvelope(ErrorBody(message, kind, None, None if code is None else str(code))))


def _quoted(payload: bytes, status: int | None) -> str:
    what = "The engine failed" if status is None else f"The engine answered {status}"
    text = payload[:QUOTED_BYTES].decode(errors="replace").strip()
    return f"{what}: {text}" if text else f"{what}."
