"""How the tests ask the demo model: greedily, one question, so that there is one right answer."""

from typing import Any

from openai.types.chat import ChatCompletionUserMessageParam

MODEL = "demo"
QUESTION = "What is Penstock?"
# Greedy decoding through every client's own parameters, and no end before `max_tokens`.
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0}
ENDLESS: dict[str, Any] = {"model": MODEL, "max_tokens": 900, "extra_body": {"ignore_eos": True}}


def user(text: str) -> list[ChatCompletionUserMessageParam]:
    """A conversation of one question."""
    return [{"role": "user", "content": text}]
