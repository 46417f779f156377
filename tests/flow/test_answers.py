"""Every question of docs/qa, asked through the gateway, gets exactly its answer: streamed and not."""

import asyncio

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from engines.demo.questions import Pages
from tests.flow.asking import GREEDY, assistant, user

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

AT_ONCE = 16


async def test_every_question_gets_exactly_its_answer(async_client: AsyncOpenAI, pages: Pages) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(question: str, *, stream: bool) -> str | None:
        async with gate:
            if not stream:
                whole: ChatCompletion = await async_client.chat.completions.create(**GREEDY, messages=user(question))
                return whole.choices[0].message.content
            chunks = await async_client.chat.completions.create(**GREEDY, messages=user(question), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    questions = [entry.title for entry in pages.entries]
    whole = await asyncio.gather(*(ask(question, stream=False) for question in questions))
    streamed = await asyncio.gather(*(ask(question, stream=True) for question in questions))
    expected = [entry.answer for entry in pages.entries]
    wrong = [q for q, e, w, s in zip(questions, expected, whole, streamed, strict=True) if not e == w == s]
    assert not wrong, wrong


async def test_anything_else_gets_the_answer_that_says_what_the_model_is(
    async_client: AsyncOpenAI, pages: Pages
) -> None:
    whole = await async_client.chat.completions.create(**GREEDY, messages=user("What is the capital of France?"))
    assert whole.choices[0].message.content == pages.off_topic.answer


async def test_a_conversation_is_remembered_by_the_client_and_read_by_the_model(
    async_client: AsyncOpenAI, pages: Pages
) -> None:
    first, second = pages.entries[0], pages.entries[5]
    messages = [*user(first.title), *assistant(first.answer), *user(second.title)]
    whole = await async_client.chat.completions.create(**GREEDY, messages=messages)
    assert whole.choices[0].message.content == second.answer
