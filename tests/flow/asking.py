"""How the tests ask the demo model: greedily, one question, so that there is one right answer."""

from typing import Any

from openai.types.chat import ChatCompletionMessageParam, ChatCompletionStreamOptionsParam

MODEL = "demo"
QUESTION = "What is Penstock?"
# Greedy decoding through every client's own parameters, and no end before `max_tokens`.
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0}
ENDLESS: dict[str, Any] = {"model": MODEL, "max_tokens": 900, "extra_body": {"ignore_eos": True}}
WITH_USAGE: ChatCompletionStreamOptionsParam = {"include_usage": True}


def user(text: str) -> list[ChatCompletionMessageParam]:
    """A conversation of one question."""
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[ChatCompletionMessageParam]:
    """An answer, to put into a conversation."""
    return [{"role": "assistant", "content": text}]
