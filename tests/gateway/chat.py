"""What tests say and hear: chat requests, and the events of an answer."""

import json
from typing import Any

ROLE = b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
FINISH = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'
DONE = b"data: [DONE]\n\n"


def says(text: str) -> bytes:
    """An event that carries `text`."""
    event = {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def ask(model: str = "m", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}]} | fields


def ask_stream(model: str = "m", **fields: Any) -> dict[str, Any]:
    """A chat request for a stream."""
    return ask(model, stream=True, **fields)


ANSWER = b'{"id":"c","choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
STREAM = (ROLE, says("Hel"), says("lo"), FINISH, USAGE, DONE)
SEEN = ROLE + says("Hel") + says("lo") + FINISH + DONE  # what a client that did not ask for usage gets of STREAM
