"""The stand-in engine: it counts, stops when nobody listens, and says what the transcript says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.gateway.answer import Engine
from loadtests.gateway.engine import listen
from loadtests.gateway.hangup import hang_up
from loadtests.gateway.load import Target
from loadtests.gateway.soak import engine_stats
from loadtests.gateway.transcript import (
    DEFAULT_CHUNK_BYTES,
    MIN_CHUNK_BYTES,
    Ask,
    Call,
    StandIn,
    filler,
    text_event,
    whole_answer,
    whole_stream,
    without_comments,
)


@asynccontextmanager
async def standing_in(engine: Engine) -> AsyncIterator[Target]:
    server = await listen(engine)
    async with server:
        yield Target(server.sockets[0].getsockname()[1])


async def exchange(target: Target, request: bytes) -> bytes:
    """Send, and read until the server closes or falls silent."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    writer.write(request)
    received = b""
    try:
        async with asyncio.timeout(1.0):
            while data := await reader.read(65536):
                received += data
    except TimeoutError:
        pass
    writer.close()
    return received


async def test_an_answer_is_what_the_transcript_says() -> None:
    call = Call(3)
    async with standing_in(Engine()) as target:
        answer = await exchange(target, target.request(call))
    assert answer.partition(b"\r\n\r\n")[2] == whole_answer(call.ask())


@pytest.mark.parametrize("chunk_bytes", [MIN_CHUNK_BYTES, DEFAULT_CHUNK_BYTES, 5000])
async def test_token_events_have_the_length_asked_for(chunk_bytes: int) -> None:
    async with standing_in(Engine(gap_s=0.0, chunk_bytes=chunk_bytes)) as target:
        answer = await exchange(target, target.request(Call(3, stream=True)))
    assert answer.count(b"%x\r\ndata: " % chunk_bytes) == 3


def test_a_chunk_too_small_for_an_event_is_refused() -> None:
    with pytest.raises(ValueError, match="the least is"):
        Engine(chunk_bytes=MIN_CHUNK_BYTES - 1)


@given(st.integers(0, 2**32 - 1), st.integers(0, 10**6), st.integers(MIN_CHUNK_BYTES, 2000))
def test_an_event_is_json_of_exactly_its_length(seed: int, index: int, chunk_bytes: int) -> None:
    event = text_event(seed, index, chunk_bytes)
    assert len(event) == chunk_bytes
    assert event != text_event(seed, index + 1, chunk_bytes)
    parsed = msgspec.json.decode(event.removeprefix(b"data: "))
    assert parsed["choices"][0]["delta"]["content"]


@given(st.integers(0, 300))
def test_filler_is_utf8_of_exactly_its_length(length_bytes: int) -> None:
    assert len(filler(length_bytes)) == length_bytes
    filler(length_bytes).decode()


def test_comments_are_dropped_and_nothing_else() -> None:
    stream = whole_stream(Call(2, stream=True, seed=7).ask(), DEFAULT_CHUNK_BYTES)
    events = stream.split(b"\n\n")
    assert without_comments(stream) == stream
    assert without_comments(b": one\n\n" + b"\n\n: two\n\n".join(events[:2]) + b"\n\n") == (
        b"\n\n".join(events[:2]) + b"\n\n"
    )


@given(st.booleans(), st.booleans(), st.integers(1, 99), st.none() | st.integers(0, 9))
def test_the_engine_understands_what_the_client_means(stream: bool, usage: bool, tokens: int, seed: int | None) -> None:
    call = Call(tokens, stream=stream, usage=usage, seed=seed, stand_in=StandIn(first_byte_s=1.5))
    assert msgspec.json.decode(call.body(), type=Ask) == call.ask()


@pytest.mark.parametrize("prompt_chars", [0, 1, 27, 28, 10_000])
def test_the_prompt_is_as_long_as_asked(prompt_chars: int) -> None:
    request = msgspec.json.decode(Call(1, prompt_chars=prompt_chars).body())
    assert len(request["messages"][1]["content"]) == prompt_chars


async def test_hang_ups_in_all_three_phases_stop_the_engine() -> None:
    engine = Engine()
    async with standing_in(engine) as target:
        left = await hang_up(target, 12, 4)
        for _ in range(3000):
            if (await engine_stats(target)).running:
                await asyncio.sleep(0.01)
    assert left == {"before-first-byte": 4, "mid-stream": 4, "whole-answer": 4}
    assert (engine.stats.started, engine.stats.cancelled, engine.stats.finished) == (12, 12, 0)
    assert 1 <= engine.stats.peak <= 4


async def test_a_hang_up_that_meets_an_answer_is_told() -> None:
    async def answer_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer_at_once, "127.0.0.1", 0)
    async with server:
        left = await hang_up(Target(server.sockets[0].getsockname()[1]), 6, 2)
    assert left == {"failed": 6}


async def test_a_slow_reader_holds_the_engine_back_and_loses_nothing() -> None:
    tokens, chunk_bytes = 2000, 5000
    async with standing_in(Engine(gap_s=0.0, chunk_bytes=chunk_bytes)) as target:
        reader, writer = await asyncio.open_connection(target.host, target.port, limit=1024)
        writer.write(target.request(Call(tokens, stream=True)))
        await asyncio.sleep(0.3)
        assert (await engine_stats(target)).running == 1
        received = 0
        while not (data := await reader.read(2**20)).endswith(b"0\r\n\r\n"):
            received += len(data)
        writer.close()
    assert received > tokens * chunk_bytes


@pytest.mark.parametrize(
    ("request_bytes", "begins"),
    [
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 200"),
        (b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 200"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{", b"HTTP/1.1 400"),
        (b"not http at all\r\n\r\n", b""),
    ],
)
async def test_what_is_not_a_completion(request_bytes: bytes, begins: bytes) -> None:
    async with standing_in(Engine()) as target:
        answer = await exchange(target, request_bytes)
    assert answer.startswith(begins)
    assert begins or not answer


async def test_a_second_request_before_the_answer_closes_the_connection() -> None:
    engine = Engine()
    async with standing_in(engine) as target:
        request = target.request(Call(5, stand_in=StandIn(first_byte_s=20.0)))
        assert await exchange(target, request + request) == b""
    assert engine.stats.running == 0
