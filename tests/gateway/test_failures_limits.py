"""Failure 9, time-outs, slow clients, connection limits and ejection."""

import asyncio
import gc
import json
import tracemalloc

import pytest

from tests.gateway.chat import ANSWER, DONE, ROLE, SEEN, STREAM, ask, ask_stream, says
from tests.gateway.client import CutShort
from tests.gateway.conftest import Start
from tests.gateway.engine import (
    Engine,
    Exchange,
    Script,
    in_turn,
    refusing,
    resetting,
    silent,
    streaming,
    unconnectable,
    whole,
)
from tests.gateway.running import Gateway, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MB = 1024 * 1024


# -- 9: large bodies ----------------------------------------------------------------------------------------------


async def test_f09_large_request_bodies_go_through_and_their_memory_is_given_back(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        sizes.append(len(exchange.request.body))
        engine.exchanges.clear()
        await whole(ANSWER)(exchange)

    sizes: list[int] = []
    engine.script = script
    gateway = await start(engine)
    image = b'{"model":"m","image":"%b"}' % (b"x" * 20 * MB)
    client = await gateway.client()
    assert (await client.post(image)).body == ANSWER
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(3):
            assert (await client.post(image)).body == ANSWER
        gc.collect()
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [len(image)] * 4
    assert left < 1 * MB
    assert peak < 10 * len(image)  # client, gateway and engine are all in this process


async def test_f09_a_body_over_the_limit_by_its_length_is_refused(start: Start, engine: Engine) -> None:
    gateway = await start(engine, limits={"body_bytes": 1000})
    answer = await (await gateway.client()).post(ask(image="x" * 1000))
    assert answer.status == 413
    assert answer.error["code"] == "request_too_large"
    assert "1000 bytes" in answer.error["message"]
    assert engine.requests == []
    assert (await gateway.record())["outcome"] == "client_error"


async def test_f09_a_very_large_body_over_the_limit_is_refused_before_it_has_come(start: Start, engine: Engine) -> None:
    gateway = await start(engine, limits={"body_bytes": 1000})
    client = await gateway.client()
    client.transport.write(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n{")
    assert (await client.whole()).status == 413
    await client.until(lambda: client.lost)


async def test_f09_a_chunked_body_over_the_limit_is_refused_by_its_count(start: Start, engine: Engine) -> None:
    gateway = await start(engine, limits={"body_bytes": 1000})
    client = await gateway.client()
    client.transport.write(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(3):
        client.transport.write(b"190\r\n%b\r\n" % (b"x" * 400))
        await asyncio.sleep(0.01)
    assert (await client.whole()).status == 413
    await client.until(lambda: client.lost)
    assert engine.requests == []


async def test_f09_a_chunked_body_under_the_limit_goes_through(start: Start, engine: Engine) -> None:
    gateway = await start(engine)
    client = await gateway.client()
    body = json.dumps(ask(image="x" * 200_000)).encode()
    client.transport.write(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    for start_at in range(0, len(body), 30_000):
        piece = body[start_at : start_at + 30_000]
        client.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    client.transport.write(b"0\r\n\r\n")
    assert (await client.whole()).status == 200
    assert engine.requests[0].body == body
    assert b"transfer-encoding" not in engine.requests[0].named


@pytest.mark.parametrize("size", [3 * MB, 10 * MB, 20 * MB])
async def test_f09_large_whole_answers_come_whole(start: Start, engine: Engine, size: int) -> None:
    body = bytes(range(256)) * (size // 256)
    engine.script = whole(body)
    gateway = await start(engine)
    client = await gateway.client()
    for _ in range(2):
        assert (await client.post(ask())).body == body
    assert engine.connections == 1
    assert [r["outcome"] for r in await gateway.records(2)] == ["ok", "ok"]


async def test_f09_a_large_whole_answer_cut_in_its_middle_is_seen_to_be_cut(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(200, ("content-length", str(20 * MB)))
        await exchange.write(bytes(10 * MB))
        exchange.close()

    engine.script = script
    gateway = await start(engine)
    client = await gateway.client()
    with pytest.raises(CutShort):
        await client.post(ask())
    record = await gateway.record()
    assert (record["outcome"], record["error_code"]) == ("engine_error", "engine_bad_response")
    assert gateway.in_flight == 0


# -- time-outs ----------------------------------------------------------------------------------------------------


async def one(gateway: Gateway, body: dict[str, object]) -> tuple[int, dict[str, object], bytes | None]:
    answer = await (await gateway.client()).post(body)
    assert gateway.in_flight == 0
    record = await gateway.record()
    assert record["outcome"] == "timeout"
    return answer.status, answer.error, answer.named.get(b"retry-after")


@pytest.mark.parametrize("body", [ask(), ask_stream()], ids=["whole", "stream"])
async def test_timeouts_first_byte(start: Start, engine: Engine, body: dict[str, object]) -> None:
    engine.script = silent
    gateway = await start(engine, timeouts={"first_byte_s": 0.1})
    status, error, retry_after = await one(gateway, body)
    assert (status, error["code"], error["type"]) == (504, "engine_timeout", "timeout_error")
    assert "no first byte within 0.1 s" in str(error["message"])
    assert retry_after is not None
    await (await engine.exchange()).until_gone()


async def test_timeouts_total_of_a_whole_answer(start: Start, engine: Engine) -> None:
    engine.script = silent
    gateway = await start(engine, timeouts={"total_s": 0.1})
    status, error, _ = await one(gateway, ask())
    assert (status, error["code"]) == (504, "engine_timeout")
    assert "longer than 0.1 s in all" in str(error["message"])


@pytest.mark.parametrize(
    ("timeouts", "text"),
    [({"idle_s": 0.2}, "fell silent for 0.2 s"), ({"total_s": 0.5}, "0.5 s in all"), ({"first_byte_s": 0.3}, "0.3 s")],
    ids=["idle", "total", "first content"],
)
async def test_timeouts_in_a_stream_are_told_in_it(
    start: Start, engine: Engine, timeouts: dict[str, float], text: str
) -> None:
    before = (ROLE,) if "first_byte_s" in timeouts else (ROLE, says("a"), says("b"))

    async def script(exchange: Exchange) -> None:
        await exchange.stream(*before)
        await exchange.until_gone()

    engine.script = script
    gateway = await start(engine, timeouts=timeouts)
    answer = await (await gateway.client()).post(ask_stream())
    assert answer.body.startswith(b"".join(before))
    *_, error, done = answer.events
    assert done == "[DONE]"
    assert json.loads(error)["error"]["code"] == "engine_timeout"
    assert text in json.loads(error)["error"]["message"]
    assert (await gateway.record())["outcome"] == "timeout"
    await (await engine.exchange()).until_gone()


async def test_timeouts_an_engine_that_goes_on_is_never_idle(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(ROLE)
        for _ in range(15):
            await exchange.chunk(says("a"))
            await asyncio.sleep(0.1)
        await exchange.chunk(DONE)
        await exchange.end()

    engine.script = script
    gateway = await start(engine, timeouts={"idle_s": 0.7})
    answer = await (await gateway.client()).post(ask_stream())
    assert answer.body == ROLE + says("a") * 15 + DONE


async def test_timeouts_connect(start: Start) -> None:
    with unconnectable() as url:
        gateway = await start(url, timeouts={"connect_s": 0.1})
        status, error, retry_after = await one(gateway, ask())
    assert (status, error["code"]) == (504, "engine_timeout")
    assert "did not accept a connection within 0.1 s" in str(error["message"])
    assert retry_after is not None


async def test_timeouts_of_the_request_body(start: Start, engine: Engine) -> None:
    gateway = await start(engine, timeouts={"body_s": 0.1})
    client = await gateway.client()
    client.transport.write(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
    answer = await client.whole()
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    await client.until(lambda: client.lost)


async def test_refused_everywhere_is_a_502_with_retry_after(start: Start) -> None:
    with refusing() as url:
        gateway = await start(url)
        answer = await (await gateway.client()).post(ask())
    assert (answer.status, answer.error["code"]) == (502, "engine_unreachable")
    assert answer.named[b"retry-after"] == b"1"


# -- slow clients -------------------------------------------------------------------------------------------------


def flood(pieces: int, *, stream: bool) -> Script:
    async def script(exchange: Exchange) -> None:
        if stream:
            await exchange.stream(ROLE)
            for _ in range(pieces):
                await exchange.chunk(says("x" * 4000))
            await exchange.chunk(DONE)
            await exchange.end()
        else:
            await exchange.head(200, ("content-length", str(pieces * 4096)))
            for _ in range(pieces):
                await exchange.write(bytes(4096))

    return script


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_slow_client_slows_the_engine_down_and_costs_no_memory(
    start: Start, engine: Engine, *, stream: bool
) -> None:
    pieces = 25_000  # 100 MB
    engine.script = flood(pieces, stream=stream)
    gateway = await start(engine)
    client = await gateway.client(receive_buffer_bytes=8192)
    client.send(ask_stream() if stream else ask())
    await client.until(lambda: bool(client.answers) and len(client.answers[0].body) > 0)
    client.slow(slow=True)
    exchange = await engine.exchange()
    await asyncio.wait_for(engine.blocked.wait(), 20)
    still = -1
    while still != exchange.written_bytes:  # what the kernel's buffers take
        still = exchange.written_bytes
        await asyncio.sleep(0.1)
    assert exchange.written_bytes < 50 * MB
    client.slow(slow=False)
    answer = await client.whole()
    size = len(ROLE + DONE) + pieces * len(says("x" * 4000)) if stream else pieces * 4096
    assert len(answer.body) == size
    assert (await gateway.record())["outcome"] == "ok"
    engine.script = whole(ANSWER)  # the connection to the engine must have been left reading
    other_client = await gateway.client()
    assert (await other_client.post(ask())).body == ANSWER
    assert engine.connections == 1


async def test_a_client_that_has_stopped_reading_is_given_up(start: Start, engine: Engine) -> None:
    engine.script = flood(25_000, stream=True)
    gateway = await start(engine, timeouts={"idle_s": 0.3})
    client = await gateway.client(receive_buffer_bytes=8192)
    client.send(ask_stream())
    await client.sees(ROLE)
    client.slow(slow=True)
    await (await engine.exchange()).until_gone()
    assert (await gateway.record())["outcome"] == "client_closed"
    assert gateway.in_flight == 0
    await eventually(lambda: gateway.endpoints[0].pool.open_connections == 0)


async def test_a_connection_paused_for_a_slow_client_serves_the_next_request(start: Start, engine: Engine) -> None:
    engine.script = in_turn(whole(bytes(30 * MB)), streaming(*STREAM))
    gateway = await start(engine)
    slow = await gateway.client(receive_buffer_bytes=8192)
    slow.send(ask())
    await slow.until(lambda: bool(slow.answers))
    for _ in range(20):
        slow.slow(slow=True)
        await asyncio.sleep(0.005)
        slow.slow(slow=False)
        await asyncio.sleep(0.005)
    await slow.whole()
    assert (await (await gateway.client()).post(ask_stream())).body == SEEN


# -- connection limit ---------------------------------------------------------------------------------------------


async def test_at_the_limit_requests_wait_and_one_too_many_is_refused(start: Start, engine: Engine) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await whole(ANSWER)(exchange)

    engine.script = script
    gateway = await start(engine, limits={"connections_per_endpoint": 2, "waiting_requests": 1})
    clients = [await gateway.client() for _ in range(3)]
    for count, client in enumerate(clients, 1):
        client.send(ask())
        await eventually(lambda count=count: gateway.endpoints[0].requests == count)  # type: ignore[misc]  # as above
    refused = await (await gateway.client()).post(ask())
    assert (refused.status, refused.error["code"]) == (429, "overloaded")
    assert "All 2 connections" in refused.error["message"]
    assert refused.named[b"retry-after"] == b"1"
    go.set()
    for client in clients:
        assert (await client.whole()).body == ANSWER
    assert engine.connections == 2
    assert gateway.in_flight == 0
    outcomes = sorted(r["outcome"] for r in await gateway.records(4))
    assert outcomes == ["ok", "ok", "ok", "overloaded"]


async def test_at_the_limit_for_too_long_is_refused_with_the_reason(start: Start, engine: Engine) -> None:
    engine.script = silent
    gateway = await start(engine, limits={"connections_per_endpoint": 1}, timeouts={"connect_s": 0.1})
    (await gateway.client()).send(ask())
    await engine.exchange()
    refused = await (await gateway.client()).post(ask())
    assert refused.status == 429
    assert "busy for 0.1 s" in refused.error["message"]


# -- ejection -----------------------------------------------------------------------------------------------------


async def test_an_endpoint_is_ejected_after_failures_in_a_row_and_probed_back(
    start: Start, engine: Engine, other: Engine
) -> None:
    other.script = whole(ANSWER)
    gateway = await start(engine, other, ejection={"failures": 2, "probe_interval_s": 0.1, "probe_path": "/alive"})
    bad = next(e for e in gateway.endpoints if e.name == engine.url.removeprefix("http://"))
    client = await gateway.client()

    async def script(exchange: Exchange) -> None:
        exchange.reset()

    engine.script = script
    while not bad.health.ejected:
        assert (await client.post(ask())).body == ANSWER
    assert await gateway.metric("penstock_endpoint_healthy", endpoint=bad.name) == 0
    asked = sum(1 for r in engine.requests if r.line.startswith(b"POST"))
    assert asked == 2
    for _ in range(5):
        assert (await client.post(ask())).body == ANSWER
    assert sum(1 for r in engine.requests if r.line.startswith(b"POST")) == asked
    engine.script = in_turn(whole(b"not yet", 503), whole(b"", 200))
    await eventually(lambda: not bad.health.ejected)
    assert engine.requests[-1].line == b"GET /alive HTTP/1.1"
    assert await gateway.metric("penstock_endpoint_healthy", endpoint=bad.name) == 1


async def test_ejected_endpoints_are_still_tried_when_there_is_no_other(start: Start, engine: Engine) -> None:
    engine.script = in_turn(resetting, resetting, whole(ANSWER))
    gateway = await start(engine, ejection={"failures": 2, "probe_interval_s": 60.0})
    client = await gateway.client()
    for _ in range(2):
        assert (await client.post(ask())).status == 502
    assert gateway.endpoints[0].health.ejected
    assert (await client.post(ask())).body == ANSWER
    assert not gateway.endpoints[0].health.ejected


async def test_an_endpoint_whose_connections_are_all_idle_can_be_probed(start: Start, engine: Engine) -> None:
    engine.script = whole(b"broken", 500)
    limits = {"connections_per_endpoint": 1}
    gateway = await start(engine, limits=limits, ejection={"failures": 1, "probe_interval_s": 0.1})
    await (await gateway.client()).post(ask())
    await gateway.record()
    assert gateway.endpoints[0].pool.open_connections == 1
    engine.script = whole(b"")
    await eventually(lambda: not gateway.endpoints[0].health.ejected, 5)


async def test_a_probe_that_gets_no_answer_changes_nothing(start: Start, engine: Engine) -> None:
    engine.script = resetting
    gateway = await start(engine, ejection={"failures": 1, "probe_interval_s": 0.05})
    await (await gateway.client()).post(ask())
    await engine.exchange(4)
    await engine.refuse()
    await asyncio.sleep(0.2)
    assert gateway.endpoints[0].health.ejected
    engine.script = whole(b"", 404)  # there is somebody
    await engine.listen()
    await eventually(lambda: not gateway.endpoints[0].health.ejected)
