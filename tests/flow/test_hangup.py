"""A client that leaves stops the real engine: before the first byte, in a stream, and while a whole answer is computed.

What is asked for would take the engine a minute. That it stops is seen in its own metrics: nothing runs, nothing waits,
the sequences are counted as aborted and most of their tokens were never generated.
"""

import asyncio
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.autoscaler.local.processes import eventually, soon
from tests.flow.asking import ENDLESS, user
from tests.flow.programs import Stack, metric

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

BATCH = 32  # sequences the engine runs at a time
MOST_TOKENS = BATCH * 900


class Engine:
    """The engine's load, by its own metrics, since this was made."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._before = self._aborted(), self._tokens()

    def _aborted(self) -> int:
        return int(metric(self._url, "penstock_engine_requests_finished_total", reason="abort"))

    def _tokens(self) -> int:
        return int(metric(self._url, "penstock_engine_generation_tokens_total"))

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return int(metric(self._url, "penstock_engine_requests_running"))

    @property
    def waiting(self) -> int:
        """Sequences that wait for a place."""
        return int(metric(self._url, "penstock_engine_requests_waiting"))

    @property
    def aborted(self) -> int:
        """Sequences that were stopped because nobody wanted them any more."""
        return self._aborted() - self._before[0]

    @property
    def tokens(self) -> int:
        """Tokens generated."""
        return self._tokens() - self._before[1]

    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self.running and not self.waiting


@pytest.fixture
def engine(flow: Stack) -> Iterator[Engine]:
    """The engine, idle before and after."""
    url = flow.engine
    soon(Engine(url).idle)
    found = Engine(url)
    yield found
    assert found.idle()
    soon(lambda: metric(flow.url, "penstock_requests_in_flight", service="demo", tenant="flow") == 0)
    assert metric(flow.url, "penstock_endpoint_requests_in_flight", endpoint=urlsplit(url).netloc) == 0
    assert metric(flow.url, "penstock_endpoint_tokens_in_flight", endpoint=urlsplit(url).netloc) == 0


def test_in_a_stream(client: OpenAI, engine: Engine) -> None:
    with client.chat.completions.create(**ENDLESS, messages=user("Hi"), stream=True) as stream:
        for _ in zip(range(5), stream, strict=False):
            pass
        assert engine.running == 1
    soon(lambda: engine.aborted == 1)
    soon(engine.idle)
    assert 4 <= engine.tokens < 900


async def test_in_a_stream_asynchronously(async_client: AsyncOpenAI, engine: Engine) -> None:
    stream = await async_client.chat.completions.create(**ENDLESS, messages=user("Hi"), stream=True)
    async for _ in stream:
        break
    await stream.close()
    await eventually(lambda: engine.aborted == 1 and engine.idle())


async def test_before_the_first_byte_while_the_engine_is_full(async_client: AsyncOpenAI, engine: Engine) -> None:
    full = await async_client.chat.completions.create(**ENDLESS, messages=user("Hi"), n=BATCH, stream=True)
    await eventually(lambda: engine.running == BATCH)
    second = async_client.chat.completions.create(**ENDLESS, messages=user("Hello"), stream=True)
    asking = asyncio.create_task(second)
    await eventually(lambda: engine.waiting == 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await eventually(lambda: engine.aborted == 1)
    assert (engine.running, engine.waiting) == (BATCH, 0)
    await full.close()
    await eventually(lambda: engine.aborted == 1 + BATCH)
    await eventually(engine.idle)
    assert engine.tokens < MOST_TOKENS


async def test_while_a_whole_answer_is_computed(async_client: AsyncOpenAI, engine: Engine) -> None:
    asking = asyncio.create_task(async_client.chat.completions.create(**ENDLESS, messages=user("Hi"), n=BATCH))
    await eventually(lambda: engine.running == BATCH)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await eventually(lambda: engine.aborted == BATCH)
    await eventually(engine.idle)
    assert engine.tokens < MOST_TOKENS


@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_that_is_cut_without_a_word(flow: Stack, engine: Engine, stream: bool) -> None:
    body = json.dumps(
        {"model": "demo", "max_tokens": 900, "ignore_eos": True, "stream": stream, "messages": user("Hi")}
    )
    address = urlsplit(flow.url)
    with socket.create_connection((address.hostname, address.port)) as line:
        line.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {flow.keys['flow']}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        soon(lambda: engine.running == 1)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets the connection
    soon(lambda: engine.aborted == 1 and engine.idle())


async def test_many_that_leave_at_once(async_client: AsyncOpenAI, engine: Engine) -> None:
    async def one() -> None:
        stream = await async_client.chat.completions.create(**ENDLESS, messages=user("Hi"), stream=True)
        async for _ in stream:
            break
        await stream.close()

    await asyncio.gather(*(one() for _ in range(2 * BATCH)))
    await eventually(lambda: engine.aborted == 2 * BATCH and engine.idle())
