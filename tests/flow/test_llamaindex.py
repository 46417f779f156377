"""LlamaIndex's `OpenAILike`: chat and completion, whole and streamed, as a chat model and as a plain one."""

from typing import Any

import pytest

from engines.demo.questions import Pages
from tests.flow.asking import QUESTION
from tests.flow.programs import Stack

pytest.importorskip("llama_index.llms.openai_like", reason="needs llama-index-llms-openai-like")

# Its packages are optional here, and one of them ships no types.
from llama_index.core.llms import ChatMessage  # type: ignore[import-not-found,unused-ignore]
from llama_index.llms.openai_like import OpenAILike  # type: ignore[import-not-found,import-untyped,unused-ignore]
from openai import DefaultAsyncHttpxClient

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

PROMPT = "Q: What is Penstock?\nA:"


def like(flow: Stack, **options: Any) -> OpenAILike:
    """The demo model."""
    return OpenAILike(
        model="demo",
        api_base=flow.api,
        api_key=flow.keys["flow"],
        temperature=0,
        max_tokens=100,
        max_retries=0,
        context_window=1024,
        **options,
    )


@pytest.fixture
def chatty(flow: Stack) -> OpenAILike:
    """As a chat model."""
    return like(flow, is_chat_model=True)


@pytest.fixture
def plain(flow: Stack) -> OpenAILike:
    """As a model that continues texts."""
    return like(flow, is_chat_model=False)


def messages() -> list[ChatMessage]:
    """One question."""
    return [ChatMessage(role="user", content=QUESTION)]


def test_a_chat_model_chats(chatty: OpenAILike, pages: Pages) -> None:
    assert chatty.chat(messages()).message.content == pages.answer_to(QUESTION)
    pieces = list(chatty.stream_chat(messages()))
    assert "".join(piece.delta or "" for piece in pieces) == pages.answer_to(QUESTION)
    assert pieces[-1].message.content == pages.answer_to(QUESTION)
    assert len(pieces) > 10


def test_a_chat_model_completes_by_chatting(chatty: OpenAILike, pages: Pages) -> None:
    assert chatty.complete(QUESTION).text == pages.answer_to(QUESTION)
    *_, last = chatty.stream_complete(QUESTION)
    assert last.text == pages.answer_to(QUESTION)


def test_a_plain_model_continues_texts(plain: OpenAILike, pages: Pages) -> None:
    assert plain.complete(PROMPT).text.strip() == pages.answer_to(QUESTION)
    pieces = list(plain.stream_complete(PROMPT))
    assert "".join(piece.delta or "" for piece in pieces).strip() == pages.answer_to(QUESTION)
    assert len(pieces) > 10


def test_a_plain_model_chats_as_a_text(plain: OpenAILike) -> None:
    """LlamaIndex writes the conversation out as a text of its own; what matters is that both ways give one answer."""
    whole = plain.chat(messages()).message.content
    assert whole
    *_, last = plain.stream_chat(messages())
    assert last.message.content == whole


async def test_the_asynchronous_half(flow: Stack, connections: DefaultAsyncHttpxClient, pages: Pages) -> None:
    chatty = like(flow, is_chat_model=True, async_http_client=connections)
    assert (await chatty.achat(messages())).message.content == pages.answer_to(QUESTION)
    pieces = [piece.delta or "" async for piece in await chatty.astream_chat(messages())]
    assert "".join(pieces) == pages.answer_to(QUESTION)
    plain = like(flow, is_chat_model=False, async_http_client=connections)
    assert (await plain.acomplete(PROMPT)).text.strip() == pages.answer_to(QUESTION)
