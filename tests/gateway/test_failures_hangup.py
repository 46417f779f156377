"""Failure 1: a client that leaves stops its engine at once, whatever the request is waiting for."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway.app import GatewayApp
from gateway.config import settings_of
from gateway.upstream.pool import Pool
from tests.gateway.chat import ANSWER, DONE, FINISH, ROLE, STREAM, ask, ask_stream, says
from tests.gateway.conftest import Start
from tests.gateway.engine import Engine, Exchange, Script, silent, streaming, unconnectable, whole
from tests.gateway.running import Gateway, eventually, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE_S = 1.0


async def head_only(exchange: Exchange) -> None:
    await exchange.head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
    await exchange.until_gone()


async def role_only(exchange: Exchange) -> None:
    await exchange.stream(ROLE)
    await exchange.until_gone()


async def half_a_json(exchange: Exchange) -> None:
    await exchange.head(200, ("content-type", "application/json"), ("content-length", "1000"))
    await exchange.write(b'{"choices":')
    await exchange.until_gone()


async def leave_early(gateway: Gateway, engine: Engine, body: dict[str, object]) -> None:
    client = await gateway.client()
    client.send(body)
    exchange = await engine.exchange()
    assert not exchange.gone.is_set()
    client.hang_up()
    await asyncio.wait_for(exchange.gone.wait(), AT_ONCE_S)


@pytest.mark.parametrize("script", [silent, head_only, role_only])
async def test_f01_hangup_before_first_byte_stops_the_engine_at_once(
    start: Start, engine: Engine, script: Script
) -> None:
    engine.script = script
    gateway = await start(engine)
    await leave_early(gateway, engine, ask_stream())
    await eventually(lambda: gateway.in_flight == 0)
    assert (await gateway.record())["outcome"] == "client_closed"


@pytest.mark.parametrize("script", [silent, half_a_json])
async def test_f01_hangup_while_a_whole_answer_is_awaited_stops_the_engine_at_once(
    start: Start, engine: Engine, script: Script
) -> None:
    engine.script = script
    gateway = await start(engine)
    await leave_early(gateway, engine, ask())
    await eventually(lambda: gateway.in_flight == 0)
    assert (await gateway.record())["outcome"] == "client_closed"


async def test_f01_hangup_in_mid_stream_stops_the_engine_at_once(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(ROLE)
        while not exchange.gone.is_set():
            await exchange.chunk(says("more and more"))
            await asyncio.sleep(0.005)

    engine.script = script
    gateway = await start(engine)
    client = await gateway.client()
    client.send(ask_stream())
    await client.sees(b"more")
    await client.until(lambda: len(client.answers[0].chunks) > 10)
    client.hang_up()
    await asyncio.wait_for((await engine.exchange()).gone.wait(), AT_ONCE_S)
    record = await gateway.record()
    assert record["outcome"] == "client_closed"
    assert record["tokens_out"] >= 9  # what was sent until then is counted
    assert gateway.in_flight == 0


async def test_f01_hangup_after_a_large_request_body_stops_the_engine_at_once(start: Start, engine: Engine) -> None:
    engine.script = silent
    gateway = await start(engine)
    await leave_early(gateway, engine, ask_stream(image="x" * 3_000_000))


async def test_f01_hangup_while_waiting_for_a_connection_never_reaches_the_engine(start: Start, engine: Engine) -> None:
    engine.script = silent
    limits = {"connections_per_endpoint": 1, "waiting_requests": 1}
    gateway = await start(engine, limits=limits)
    busy, waiting = await gateway.client(), await gateway.client()
    busy.send(ask_stream())
    exchange = await engine.exchange()
    waiting.send(ask_stream())
    await eventually(lambda: gateway.endpoints[0].requests == 2)
    waiting.hang_up()
    await eventually(lambda: gateway.endpoints[0].requests == 1, AT_ONCE_S)
    assert (await gateway.record())["outcome"] == "client_closed"
    engine.script = whole(ANSWER)
    third = await gateway.client()  # the place in the queue is free again
    third.send(ask())
    await eventually(lambda: gateway.endpoints[0].requests == 2)
    busy.hang_up()
    await exchange.until_gone()
    assert (await third.whole()).status == 200
    assert len(engine.requests) == 2


async def test_f01_hangup_while_connecting_is_noticed(start: Start) -> None:
    with unconnectable() as url:
        gateway = await start(url, timeouts={"connect_s": 30.0})
        client = await gateway.client()
        client.send(ask_stream())
        await eventually(lambda: gateway.in_flight > 0)
        client.hang_up()
        await eventually(lambda: gateway.in_flight == 0, AT_ONCE_S)
        assert gateway.endpoints[0].pool.open_connections == 0
        assert (await gateway.record())["outcome"] == "client_closed"


async def test_f01_hangup_while_the_body_is_on_its_way(start: Start, engine: Engine) -> None:
    gateway = await start(engine)
    client = await gateway.client()
    client.transport.write(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
    await asyncio.sleep(0.05)
    client.hang_up()
    assert (await gateway.record())["outcome"] == "client_closed"
    assert engine.requests == []


async def test_f01_a_client_that_has_read_the_done_mark_and_leaves_has_its_answer(start: Start, engine: Engine) -> None:
    engine.script = streaming(*STREAM, end=False)
    gateway = await start(engine)
    client = await gateway.client()
    client.send(ask_stream())
    await client.sees(DONE)
    client.hang_up()
    await asyncio.wait_for((await engine.exchange()).gone.wait(), AT_ONCE_S)
    record = await gateway.record()
    assert (record["outcome"], record["tokens_in"], record["tokens_out"]) == ("ok", 7, 3)


async def test_f01_an_engine_that_does_not_close_after_the_done_mark_is_not_waited_for(
    start: Start, engine: Engine
) -> None:
    engine.script = streaming(says("a"), FINISH, DONE, end=False)
    gateway = await start(engine)
    client = await gateway.client()
    answer = await client.post(ask_stream())
    assert answer.body == says("a") + FINISH + DONE
    assert (await gateway.record())["outcome"] == "ok"


async def test_f01_a_request_that_its_server_cancels_stops_the_engine_at_once(engine: Engine) -> None:
    engine.script = silent
    written: list[bytes] = []
    app = GatewayApp(settings_of(settings_for(engine)), write_log=written.append)
    body = json.dumps(ask()).encode()
    told: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body}]

    async def receive() -> MutableMapping[str, Any]:
        return told.pop() if told else await asyncio.Future()

    async def send(_: MutableMapping[str, Any]) -> None:
        raise AssertionError("there is nobody to send to")

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": []}
    task = asyncio.create_task(app(scope, receive, send))
    exchange = await engine.exchange()
    task.cancel()
    await asyncio.wait_for(exchange.gone.wait(), AT_ONCE_S)
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    await app.stop()
    assert json.loads(b"".join(written))["error_code"] == "shutting_down"


async def test_f01_waiting_requests_that_left_do_not_fill_the_queue(engine: Engine) -> None:
    pool = Pool("127.0.0.1", engine.port, limit=1, waiting=2, connect_s=10, idle_s=10)
    held = await pool.connect()
    for _ in range(5):
        waiter = asyncio.create_task(pool.connect())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    waiter = asyncio.create_task(pool.connect())
    await asyncio.sleep(0)
    pool.release(held)
    assert await waiter is held
    held.close()
    await eventually(lambda: pool.open_connections == 0)
