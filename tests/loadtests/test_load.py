"""The load generator sees what is wrong, and counts what is right exactly."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from loadtests.gateway.answer import Engine
from loadtests.gateway.engine import listen
from loadtests.gateway.load import Load, Sending, Tally, Target, drive, repeat
from loadtests.gateway.transcript import DEFAULT_CHUNK_BYTES, Call, Fault, StandIn, whole_stream

TOKENS = 6
EVENTS = TOKENS + 3  # the role, the tokens, the finish, the usage


@asynccontextmanager
async def standing_in(engine: Engine) -> AsyncIterator[Target]:
    server = await listen(engine)
    async with server:
        yield Target(server.sockets[0].getsockname()[1])


@asynccontextmanager
async def saying(answer: bytes, *, close: bool) -> AsyncIterator[Target]:
    """A server that answers every request with these bytes, whatever they are."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
            if close:
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Target(server.sockets[0].getsockname()[1])


async def send(call: Call, *, requests: int = 10, connections: int = 3) -> tuple[Tally, Engine]:
    engine = Engine(gap_s=0.0)
    async with standing_in(engine) as target:
        return await drive(target, Load(connections, requests, repeat(target, call), limit_s=30.0)), engine


def faulty(fault: Fault, *, stream: bool = True) -> Call:
    return Call(TOKENS, stream=stream, stand_in=StandIn(fault=fault))


async def test_streams_and_their_events_are_counted_exactly() -> None:
    tally, engine = await send(Call(TOKENS, stream=True))
    assert tally.flawless
    assert (tally.answered, tally.chunks) == (10, 10 * EVENTS)
    assert len(tally.ttft_s) == len(tally.total_s) == 10
    assert (engine.stats.started, engine.stats.finished, engine.stats.running) == (10, 10, 0)


async def test_without_usage_a_stream_has_one_event_less() -> None:
    tally, _ = await send(Call(TOKENS, stream=True, usage=False))
    assert tally.chunks == 10 * (EVENTS - 1)


async def test_whole_answers_have_no_chunks() -> None:
    tally, _ = await send(Call(TOKENS))
    assert tally.flawless
    assert (tally.answered, tally.chunks) == (10, 0)


async def test_an_error_status_is_an_error_and_no_answer() -> None:
    for stream in (True, False):
        tally, _ = await send(faulty(Fault.ERROR_STATUS, stream=stream))
        assert tally.errors == {"500": 10}
        assert (tally.answered, tally.incomplete, tally.ttft_s) == (0, 0, [])


async def test_an_error_event_in_a_200_stream_is_an_error() -> None:
    tally, _ = await send(faulty(Fault.ERROR_EVENT))
    assert tally.errors == {"event": 10}
    assert (tally.answered, tally.incomplete) == (0, 0)


async def test_a_missing_done_makes_a_stream_incomplete() -> None:
    tally, _ = await send(faulty(Fault.NO_DONE))
    assert (tally.incomplete, tally.answered, dict(tally.errors)) == (10, 0, {})
    assert not tally.flawless


async def test_a_cut_stream_is_an_error_and_incomplete() -> None:
    tally, _ = await send(faulty(Fault.CUT))
    assert tally.errors == {"cut": 10}
    assert (tally.incomplete, tally.answered) == (10, 0)


async def test_a_cut_whole_answer_is_an_error() -> None:
    tally, _ = await send(faulty(Fault.CUT, stream=False))
    assert tally.errors == {"cut": 10}
    assert (tally.incomplete, tally.answered) == (0, 0)


async def test_nobody_listens() -> None:
    server = await listen(Engine())
    target = Target(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    tally = await drive(target, Load(2, 5, repeat(target, Call(1))))
    assert tally.errors == {"refused": 5}


async def test_a_connection_closed_without_a_word() -> None:
    async with saying(b"", close=True) as target:
        tally = await drive(target, Load(2, 4, repeat(target, Call(1, stream=True))))
    assert tally.errors == {"closed": 4}
    assert tally.incomplete == 0


async def test_an_answer_that_is_not_http() -> None:
    async with saying(b"SSH-2.0-OpenSSH\r\n", close=True) as target:
        tally = await drive(target, Load(1, 3, repeat(target, Call(1))))
    assert tally.errors == {"not_http": 3}


async def test_silence_is_given_up_at_the_limit() -> None:
    async with saying(b"", close=False) as target:
        tally = await drive(target, Load(3, 3, repeat(target, Call(1)), limit_s=0.3))
    assert tally.errors == {"timeout": 3}


async def test_a_second_done_makes_a_stream_incomplete() -> None:
    body = b"data: {}\n\ndata: [DONE]\n\ndata: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with saying(head + body, close=False) as target:
        tally = await drive(target, Load(1, 2, repeat(target, Call(1, stream=True))))
    assert (tally.incomplete, tally.answered) == (2, 0)


@pytest.mark.parametrize("piece", [1, 3, 7, 64])
async def test_events_are_counted_however_the_answer_is_cut(piece: int) -> None:
    body = b'data: {"a":1}\n\ndata: {"b":"data"}\n\n: a comment\n\ndata: [DONE]\n\n'
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in pieces) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with saying(head + framed, close=False) as target:
        tally = await drive(target, Load(1, 3, repeat(target, Call(1, stream=True))))
    assert tally.flawless
    assert (tally.answered, tally.chunks) == (3, 6)


async def test_a_polite_close_after_each_answer_is_no_error() -> None:
    answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
    async with saying(answer, close=True) as target:
        tally = await drive(target, Load(2, 6, repeat(target, Call(1))))
    assert tally.flawless
    assert tally.answered == 6


def seeded(target: Target, chunk_bytes: int) -> Callable[[int], Sending]:
    def request(number: int) -> Sending:
        call = Call(TOKENS, stream=True, usage=number % 2 == 0, seed=number)
        return Sending(target.request(call), stream=True, expected=whole_stream(call.ask(), chunk_bytes))

    return request


async def test_each_stream_is_compared_with_what_the_engine_sent() -> None:
    async with standing_in(Engine(gap_s=0.0)) as target:
        good = await drive(target, Load(4, 20, seeded(target, DEFAULT_CHUNK_BYTES)))
        other = await drive(target, Load(4, 20, seeded(target, DEFAULT_CHUNK_BYTES + 1)))
    assert good.flawless
    assert (other.mismatched, other.answered) == (20, 20)
    assert not other.flawless


async def test_comments_that_keep_a_connection_open_are_no_difference() -> None:
    call = Call(1, stream=True, seed=1)
    expected = whole_stream(call.ask(), DEFAULT_CHUNK_BYTES)
    body = b": still here\n\n" + expected
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with saying(head + body, close=False) as target:
        sending = Sending(target.request(call), stream=True, expected=expected)
        tally = await drive(target, Load(1, 2, lambda _: sending))
    assert tally.flawless


async def test_no_request_begins_after_the_sending_time() -> None:
    engine = Engine(gap_s=0.0)
    async with standing_in(engine) as target:
        tally = await drive(target, Load(2, 10**9, repeat(target, Call(1)), sending_s=0.2))
    assert tally.flawless
    assert tally.answered == engine.stats.finished > 0


async def test_the_longest_silence_within_a_stream_is_seen() -> None:
    tally, _ = await send(Call(2, stream=True, stand_in=StandIn(gap_s=0.2)), requests=1, connections=1)
    assert tally.max_gap_s >= 0.15
    assert tally.ttft_s[0] < tally.total_s[0]
