"""`langchain-openai`: answers, streams, batches, and tools that pass through untouched."""

import json
from typing import Any

import msgspec
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient
from pydantic import SecretStr

from engines.demo.questions import Pages
from tests.flow.asking import QUESTION
from tests.flow.programs import Stack
from tests.flow.standin import Standin

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@tool
def weather(city: str, days: int = 1) -> str:
    """The weather in a city – rain, mostly."""
    return f"rain in {city} for {days} days"


def demo(flow: Stack, **options: Any) -> ChatOpenAI:
    """The demo model."""
    key = SecretStr(flow.keys["flow"])
    return ChatOpenAI(model="demo", base_url=flow.api, api_key=key, temperature=0, max_retries=0, timeout=60, **options)


def caller(url: str, **options: Any) -> ChatOpenAI:
    """A model that calls a tool whatever it is asked."""
    return ChatOpenAI(model="tools", base_url=url, api_key=SecretStr("any"), max_retries=0, timeout=60, **options)


@pytest.fixture
def model(flow: Stack) -> ChatOpenAI:
    """The demo model."""
    return demo(flow)


def assert_calls_the_tool(answer: AIMessage) -> None:
    """It is the scripted call, decoded."""
    (call,) = answer.tool_calls
    assert (call["name"], call["args"], call["id"]) == ("weather", {"city": "Oslo"}, "call_1")


def test_invoke(model: ChatOpenAI, pages: Pages) -> None:
    answer = model.invoke(QUESTION)
    assert answer.content == pages.answer_to(QUESTION)
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["model_name"] == "demo"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 10


@pytest.mark.parametrize("usage", [False, True])
def test_stream(model: ChatOpenAI, pages: Pages, usage: bool) -> None:
    chunks = list(model.stream(QUESTION, stream_usage=usage))
    whole = sum(chunks[1:], chunks[0])
    assert isinstance(whole, AIMessageChunk)
    assert whole.content == pages.answer_to(QUESTION)
    assert len(chunks) > 10
    assert (whole.usage_metadata is not None) is usage
    assert usage is False or whole.usage_metadata == model.invoke(QUESTION).usage_metadata


def test_batch(model: ChatOpenAI, pages: Pages) -> None:
    entries = pages.entries[:6]
    answers = model.batch([entry.title for entry in entries])
    assert [answer.content for answer in answers] == [entry.answer for entry in entries]


async def test_the_asynchronous_half(flow: Stack, connections: DefaultAsyncHttpxClient, pages: Pages) -> None:
    model = demo(flow, http_async_client=connections)
    assert (await model.ainvoke(QUESTION)).content == pages.answer_to(QUESTION)
    chunks = [chunk.content async for chunk in model.astream(QUESTION)]
    assert "".join(map(str, chunks)) == pages.answer_to(QUESTION)
    answers = await model.abatch([entry.title for entry in pages.entries[:4]])
    assert [answer.content for answer in answers] == [entry.answer for entry in pages.entries[:4]]


def test_a_model_without_tools_answers_all_the_same(model: ChatOpenAI, pages: Pages) -> None:
    answer = model.bind_tools([weather], tool_choice="auto").invoke(QUESTION)
    assert answer.content == pages.answer_to(QUESTION)
    assert answer.tool_calls == []


@pytest.mark.parametrize("choice", ["auto", "none", "any", "weather"])
def test_tools_reach_the_engine_byte_for_byte(scripted_api: str, scripted: Standin, choice: str) -> None:
    """The same request, without a gateway in between and with one, is the same body."""
    bodies = []
    for url in (f"{scripted.url}/v1", scripted_api):
        answer = caller(url).bind_tools([weather], tool_choice=choice).invoke("Will it rain in Oslo?")
        assert_calls_the_tool(answer)
        bodies.append(scripted.of("tools")[-1].body)
    assert bodies[0] == bodies[1]
    sent = json.loads(bodies[1])
    assert sent["tools"][0]["function"]["parameters"]["properties"].keys() == {"city", "days"}
    assert sent["tool_choice"]


def test_they_do_so_in_a_stream_and_the_call_comes_back_in_pieces(scripted_api: str, scripted: Standin) -> None:
    fields = []
    for url in (f"{scripted.url}/v1", scripted_api):
        chunks = list(caller(url).bind_tools([weather], tool_choice="weather").stream("Will it rain?"))
        assert_calls_the_tool(sum(chunks[1:], chunks[0]))
        assert [c.response_metadata["finish_reason"] for c in chunks if "finish_reason" in c.response_metadata] == [
            "tool_calls"
        ]
        sent = msgspec.json.decode(scripted.of("tools")[-1].body, type=dict[str, msgspec.Raw])
        # The gateway may ask for usage besides; every field of the client's is as it was.
        fields.append({name: bytes(value) for name, value in sent.items() if name != "stream_options"})
    assert fields[0] == fields[1]
    assert fields[1].keys() >= {"tools", "tool_choice"}


async def test_and_asynchronously(scripted_api: str, connections: DefaultAsyncHttpxClient) -> None:
    bound = caller(scripted_api, http_async_client=connections).bind_tools([weather])
    assert_calls_the_tool(await bound.ainvoke("Will it rain?"))
    chunks = [chunk async for chunk in bound.astream("Will it rain?")]
    assert_calls_the_tool(sum(chunks[1:], chunks[0]))


def test_the_answer_of_a_tool_goes_back(scripted_api: str, scripted: Standin) -> None:
    model = caller(scripted_api)
    call = model.bind_tools([weather]).invoke("Will it rain?")
    result = weather.invoke(call.tool_calls[0])
    model.invoke(["Will it rain?", call, result])
    _, calling, told = scripted.of("tools")[-1].json["messages"]
    assert calling["tool_calls"][0]["function"]["name"] == "weather"
    assert (told["role"], told["tool_call_id"], told["content"]) == ("tool", "call_1", "rain in Oslo for 1 days")
