"""The asynchronous `openai` client, and many streams at a time."""

import asyncio

import pytest
from openai import AsyncOpenAI

from engines.demo.questions import Pages
from tests.flow.asking import GREEDY, MODEL, QUESTION, user

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

STREAMS = 32


async def streamed(client: AsyncOpenAI, question: str) -> str:
    """The text of a streamed answer."""
    stream = await client.chat.completions.create(**GREEDY, messages=user(question), stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_models_answers_and_streams(async_client: AsyncOpenAI, pages: Pages) -> None:
    assert [model.id async for model in async_client.models.list()] == [MODEL]
    assert (await async_client.models.retrieve(MODEL)).id == MODEL
    whole = await async_client.chat.completions.create(**GREEDY, messages=user(QUESTION))
    assert whole.choices[0].message.content == await streamed(async_client, QUESTION) == pages.answer_to(QUESTION)


async def test_raw_and_streaming_responses(async_client: AsyncOpenAI) -> None:
    raw = await async_client.chat.completions.with_raw_response.create(**GREEDY, messages=user("Hi"), max_tokens=3)
    assert raw.headers["x-request-id"].startswith("req-")
    asked = async_client.chat.completions.with_streaming_response
    async with asked.create(**GREEDY, messages=user("Hi"), max_tokens=3, stream=True) as response:
        lines = [line async for line in response.iter_lines()]
    assert lines.count("data: [DONE]") == 1


async def test_completions(async_client: AsyncOpenAI) -> None:
    whole = await async_client.completions.create(**GREEDY, prompt="Penstock is", max_tokens=8)
    stream = await async_client.completions.create(**GREEDY, prompt="Penstock is", max_tokens=8, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == whole.choices[0].text


async def test_32_streams_at_once_each_get_their_own_answer(async_client: AsyncOpenAI, pages: Pages) -> None:
    asked = [pages.entries[n % len(pages.entries)] for n in range(STREAMS)]
    texts = await asyncio.gather(*(streamed(async_client, entry.title) for entry in asked))
    assert texts == [entry.answer for entry in asked]
