"""The scripted engine, held to what it promises."""

import asyncio

import pytest

from tests.gateway.client import Client, CutShort
from tests.gateway.engine import (
    Engine,
    Script,
    closing,
    in_turn,
    refusing,
    resetting,
    silent,
    streaming,
    unconnectable,
    whole,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_it_notes_what_came_and_answers_by_the_script(engine: Engine) -> None:
    engine.script = in_turn(whole(b"one", 201, ("x-a", "b")), streaming(b"a", b"bc"))
    async with await Client.to(engine.port) as client:
        first = await client.post(b"body", "/p?q=1", {"X-Mine": "yes"})
        second = await client.post(b"")
    assert (first.status, bytes(first.body), first.named[b"x-a"]) == (201, b"one", b"b")
    assert second.chunks == [b"a", b"bc"]
    assert engine.requests[0].line == b"POST /p?q=1 HTTP/1.1"
    assert engine.requests[0].named[b"x-mine"] == b"yes"
    assert engine.requests[0].body == b"body"
    assert engine.connections == 1


async def test_it_sees_a_hang_up(engine: Engine) -> None:
    engine.script = silent
    async with await Client.to(engine.port) as client:
        client.send(b"")
        exchange = await engine.exchange()
        assert not exchange.gone.is_set()
        client.hang_up()
        await exchange.until_gone()


@pytest.mark.parametrize("script", [resetting, closing])
async def test_it_cuts(engine: Engine, script: Script) -> None:
    engine.script = script
    async with await Client.to(engine.port) as client:
        with pytest.raises(CutShort):
            await client.post(b"")


async def test_its_writes_wait_for_a_slow_reader(engine: Engine) -> None:
    engine.script = streaming(*[bytes(65_536)] * 400, end=False)
    async with await Client.to(engine.port, receive_buffer_bytes=4096) as client:
        client.slow(slow=True)
        client.send(b"")
        await asyncio.wait_for(engine.blocked.wait(), 10)
        exchange = await engine.exchange()
        assert exchange.written_bytes < 400 * 65_536
        client.slow(slow=False)
        await client.until(lambda: bool(client.answers) and len(client.answers[0].body) == 400 * 65_536)


async def test_it_refuses_and_accepts_again(engine: Engine) -> None:
    await engine.refuse()
    with pytest.raises(ConnectionRefusedError):
        await Client.to(engine.port)
    await engine.listen()
    async with await Client.to(engine.port) as client:
        assert (await client.post(b"")).status == 200


async def test_ports_that_refuse_and_ports_that_hang() -> None:
    with refusing() as url, pytest.raises(ConnectionRefusedError):
        await Client.to(int(url.rpartition(":")[2]))
    with unconnectable() as url, pytest.raises(TimeoutError):
        await asyncio.wait_for(Client.to(int(url.rpartition(":")[2])), 0.2)
