"""Reading a stream of server-sent events without parsing it: head and tail are decoded, the middle is let through.

Pure: bytes in, bytes out. Nothing here depends on where reads begin or end; an event may come in many pieces, and many
events in one.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from gateway.relay.usage import Usage, normalise_error

MAX_HELD_BYTES = 65_536  # an event longer than this is no usage chunk, no error, no [DONE]: it is let through in pieces
DONE = b"data: [DONE]\n\n"
EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
FRAMED_OBJECT_ENDS = (
    b"}\n\n\r\n",
    b"}\r\n\r\n\r\n",
)  # an event with a JSON object, at the end of a chunk as framed


class _Choice(Struct):
    delta: dict[str, Raw] | None = None
    text: str | None = None


class _Event(Struct):
    """One event, of chat, completions or responses, as far as the gateway looks into it."""

    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: Raw = Raw()  # not `Raw | None`, which msgspec takes for null only
    object: Any = None
    type: Any = None
    delta: Raw = Raw()
    response: "_Response | None" = None


class _Response(Struct):
    usage: Usage | None = None


_decoder = msgspec.json.Decoder(_Event)
_EMPTY = (b'""', b"null", b"[]", b"{}")
_NONE = (b"", b"null")


def needs_look(data: bytes) -> bool:
    """Pure. Whether `data` may hold usage, an error or the end of the stream, and so has to be decoded.

    These marks cannot stand in generated text: a quotation mark inside a JSON string is escaped. A false alarm only
    costs time.
    """
    return data.find(b'_tokens"') >= 0 or data.find(b'"error"') >= 0 or data.find(b"[DONE]") >= 0


class EventScanner:
    """What happened in a stream so far. Feed it body bytes; it gives back the bytes to forward.

    Attributes:
        steady: the first content has been seen, no part of an event is held and the stream has not ended: a piece
            that ends with an event and does not `needs_look` may be forwarded without calling `feed`.
        content: content has been seen.
        events: events seen, counted as tokens when the engine gives no usage.
        usage: the engine's token counts, once it gave them.
        error: the OpenAI-shaped body of an error event, if one came.
        done: `[DONE]` has come, or an error: nothing is forwarded after it.
    """

    __slots__ = ("_held", "_oversize", "content", "done", "error", "events", "steady", "strip_usage", "usage")

    def __init__(self, *, strip_usage: bool) -> None:
        self.strip_usage = strip_usage
        self._held = b""
        self._oversize = False
        self.steady = False
        self.content = False
        self.events = 0
        self.usage: Usage | None = None
        self.error: bytes | None = None
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """The part of what came so far that is to be forwarded now."""
        if self.done:
            return b""
        if self.steady and data.endswith(EVENT_ENDS) and not needs_look(data):
            self.events += data.count(b"data:")
            return data
        out = b"".join(self._split(data))
        self.steady = self.content and not self._held and not self._oversize and not self.done
        return out

    @property
    def cut(self) -> bool:
        """Whether the beginning of an event has been forwarded, and its end not yet."""
        return self._oversize

    def finish(self) -> bytes:
        """What is left when the body has ended: a last event without its blank line."""
        held, self._held = self._held, b""
        self.steady = False
        if self._oversize:
            return held.rstrip(b"\r\n") + b"\n\n"
        if self.done or not held.strip():
            return b""
        return self._look(held.rstrip(b"\r\n") + b"\n\n")

    def _split(self, data: bytes) -> list[bytes]:
        out: list[bytes] = []
        fresh = max(0, len(self._held) - 3)  # a blank line may straddle two reads; what is older has been searched
        buffer = self._held + data if self._held else data
        start = 0
        while not self.done:
            end = _event_end(buffer, max(start, fresh))
            if end < 0:
                break
            event = buffer[start:end]
            start = end
            if self._oversize:
                self._oversize = False
                self.events += 1
                out.append(event)
            else:
                out.append(self._look(event))
        self._held = b"" if self.done else buffer[start:]
        if len(self._held) > MAX_HELD_BYTES or (self._oversize and len(self._held) > 3):
            # Let all but the last bytes go: they may be the first half of the blank line that ends the event.
            self._oversize = self.content = True
            out.append(self._held[:-3])
            self._held = self._held[-3:]
        return out

    def _look(self, event: bytes) -> bytes:
        """One whole event, decoded where that may matter; gives what to forward of it."""
        if self.content and not needs_look(event):
            self.events += 1
            return event
        payload = _payload(event)
        if payload is None:
            return event  # a comment, or fields without data
        if payload == b"[DONE]":
            self.done = True
            return DONE
        try:
            seen = _decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.content = True
            self.events += 1
            return event  # not ours to judge
        if _is_error(seen):
            return self._fail(payload)
        return self._account(event, seen)

    def _fail(self, payload: bytes) -> bytes:
        self.done = True
        self.error = normalise_error(payload)
        return b"data: %b\n\n%b" % (self.error, DONE)

    def _account(self, event: bytes, seen: _Event) -> bytes:
        usage = seen.usage or (seen.response.usage if seen.response else None)
        if usage is not None:
            self.usage = usage
            if not seen.choices and self.strip_usage:
                return b""
        if _has_content(seen):
            self.content = True
            self.events += 1
        return event


def _event_end(buffer: bytes, start: int) -> int:
    """Index after the blank line that ends the first event, or -1. Lines end with LF or CRLF."""
    lf = buffer.find(b"\n\n", start)
    crlf = buffer.find(b"\r\n\r\n", start, lf if lf >= 0 else len(buffer))
    if crlf >= 0:
        return crlf + 4
    return lf + 2 if lf >= 0 else -1


def _payload(event: bytes) -> bytes | None:
    """The event's data: its `data:` lines, joined by LF as the SSE standard says; None if it has none."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines).strip() if lines else None


def _is_error(seen: _Event) -> bool:
    return bytes(seen.error) not in _NONE or seen.object == "error" or seen.type == "error"


def _has_content(seen: _Event) -> bool:
    if seen.choices:
        return any(c.text or _says_something(c.delta) for c in seen.choices)
    return bytes(seen.delta) not in _NONE  # response.output_text.delta


def _says_something(delta: dict[str, Any] | None) -> bool:
    return bool(delta) and any(name != "role" and bytes(raw) not in _EMPTY for name, raw in (delta or {}).items())


class Payloads:
    """The data of each event of a stream, in whatever pieces the stream comes; b"" for an event without data."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now."""
        buffer = self._held + data
        found: list[bytes] = []
        start = 0
        while (end := _event_end(buffer, start)) >= 0:
            found.append(_payload(buffer[start:end]) or b"")
            start = end
        self._held = buffer[start:]
        return found
