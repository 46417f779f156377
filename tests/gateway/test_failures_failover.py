"""Failures 6 and 7: another endpoint before the first byte, never after; an engine's own errors as they are."""

import asyncio
import json
from typing import cast

import pytest

from serving.routes import Endpoint, Revision, Route, RouteTable
from tests.gateway.chat import ANSWER, DONE, ROLE, SEEN, STREAM, ask, ask_stream, says
from tests.gateway.conftest import Start
from tests.gateway.engine import (
    Engine,
    Exchange,
    Script,
    closing,
    in_turn,
    raw,
    refusing,
    resetting,
    silent,
    streaming,
    unconnectable,
    whole,
)
from tests.gateway.running import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
NOTHING_YET: dict[str, Script] = {
    "reset": resetting,
    "closed": closing,
    "503": whole(b"busy", 503),
    "502": whole(b"bad", 502),
    "504": whole(b"late", 504),
    "429": whole(b"slow down", 429),
    "not HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "half a head": raw(b"HTTP/1.1 200 OK\r\ncontent-ty"),
    "a head and no more": raw(HEAD),
    "half an event": raw(HEAD + b"8\r\ndata: {\r\n"),
    "a comment cut off": raw(HEAD + b"5\r\n: pin\r\n"),
    "an endless head": raw(b"HTTP/1.1 200 OK\r\n" + b"x-filler: %b\r\n" % (b"x" * 1000) * 100, close=False),
    "half an answer": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"),
    "status 999": raw(b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n", close=False),
}


async def by_both(start: Start, engine: Engine, other: Engine, first: Script) -> list[bytes]:
    """The bodies of two streams, each tried at one of two engines first; whichever asks first fails once each."""
    used: set[int] = set()

    def once(of: Engine) -> Script:
        async def script(exchange: Exchange) -> None:
            if not used:
                used.add(of.port)
                await first(exchange)
            else:
                await streaming(*STREAM)(exchange)

        return script

    engine.script, other.script = once(engine), once(other)
    gateway = await start(engine, other)
    client = await gateway.client()
    answer = await client.post(ask_stream())
    assert answer.status == 200
    record = await gateway.record()
    assert (record["outcome"], record["attempts"]) == ("ok", 2)
    assert await gateway.metric("penstock_retries_total") == 1
    assert len(engine.requests) == len(other.requests) == 1
    assert engine.requests[0].body == other.requests[0].body
    return [bytes(answer.body), bytes((await client.post(ask_stream())).body)]


@pytest.mark.parametrize("first", NOTHING_YET.values(), ids=NOTHING_YET)
async def test_f06_another_endpoint_is_tried_before_the_first_byte(
    start: Start, engine: Engine, other: Engine, first: Script
) -> None:
    assert await by_both(start, engine, other, first) == [SEEN, SEEN]


async def test_f06_another_endpoint_is_tried_when_one_refuses(start: Start, engine: Engine) -> None:
    engine.script = streaming(*STREAM)
    with refusing() as url:
        gateway = await start(engine, url)
        client = await gateway.client()
        for _ in range(10):
            assert (await client.post(ask_stream())).body == SEEN
        assert await gateway.metric("penstock_retries_total") >= 1


async def test_f06_another_endpoint_is_tried_when_one_does_not_accept(start: Start, engine: Engine) -> None:
    engine.script = whole(ANSWER)
    with unconnectable() as url:
        gateway = await start(engine, url, timeouts={"connect_s": 0.1})
        client = await gateway.client()
        for _ in range(10):
            assert (await client.post(ask())).body == ANSWER


async def test_f06_another_endpoint_is_tried_after_comments(start: Start, engine: Engine, other: Engine) -> None:
    async def late(exchange: Exchange) -> None:
        await asyncio.sleep(0.5)
        exchange.reset()

    used = []

    async def script(exchange: Exchange) -> None:
        used.append(exchange)
        await (late if len(used) == 1 else streaming(*STREAM))(exchange)

    engine.script = other.script = script
    gateway = await start(engine, other, keepalive_comment_s=0.05)
    answer = await (await gateway.client()).post(ask_stream())
    assert answer.comments >= 1
    assert answer.body.replace(b": keep-alive\n\n", b"") == SEEN


@pytest.mark.parametrize("mishap", [resetting, closing, raw(b"not a chunk\r\n")], ids=["reset", "closed", "garbage"])
@pytest.mark.parametrize("before", [(ROLE,), (ROLE, says("Hel"))], ids=["role", "text"])
async def test_f06_after_the_first_byte_the_client_is_told_and_nothing_is_said_twice(
    start: Start, engine: Engine, other: Engine, before: tuple[bytes, ...], mishap: Script
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(*before)
        await asyncio.sleep(0.05)
        await mishap(exchange)

    engine.script = other.script = script
    gateway = await start(engine, other)
    answer = await (await gateway.client()).post(ask_stream())
    assert answer.status == 200
    assert answer.body.startswith(b"".join(before) + b'data: {"error":')
    *_, error, done = answer.events
    assert done == "[DONE]"
    assert json.loads(error)["error"]["code"] == "engine_bad_response"
    assert len(engine.requests) + len(other.requests) == 1
    record = await gateway.record()
    assert (record["outcome"], record["error_code"]) == ("engine_error", "engine_bad_response")
    assert gateway.in_flight == 0


async def test_f06_a_connection_lost_after_the_done_mark_is_no_loss(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(*STREAM)
        await asyncio.sleep(0.05)
        exchange.reset()

    engine.script = script
    gateway = await start(engine)
    assert (await (await gateway.client()).post(ask_stream())).body == SEEN
    assert (await gateway.record())["outcome"] == "ok"


async def test_f06_an_event_cut_in_its_middle_is_never_made_to_look_whole(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(ROLE, says("x" * 100_000)[:90_000])
        await asyncio.sleep(0.05)
        exchange.reset()

    engine.script = script
    gateway = await start(engine)
    client = await gateway.client()
    client.send(ask_stream())
    await client.sees(b"xxxx")
    await client.until(lambda: client.lost)
    assert not client.answers[0].complete
    assert (await gateway.record())["outcome"] == "engine_error"


async def test_f06_when_all_fail_the_last_failure_is_the_answer(start: Start, engine: Engine, other: Engine) -> None:
    engine.script = other.script = resetting
    gateway = await start(engine, other)
    answer = await (await gateway.client()).post(ask_stream())
    assert answer.status == 502
    assert answer.error["code"] == "engine_unreachable"
    assert int(answer.named[b"retry-after"]) >= 1
    assert len(engine.requests) + len(other.requests) == 2


async def test_f06_the_routes_may_change_between_two_attempts(start: Start, engine: Engine, other: Engine) -> None:
    def table(*engines: Engine) -> RouteTable:
        ends = tuple(Endpoint(e.url) for e in engines)
        return RouteTable.of([Route("m", ("m",), (Revision("r", ends),))])

    gateway = await start(routes=table(engine), models=[])

    async def replaced(exchange: Exchange) -> None:
        gateway.app.set_routes(table(other))
        exchange.reset()

    engine.script, other.script = in_turn(whole(ANSWER), replaced), whole(ANSWER)
    client = await gateway.client()
    for _ in range(2):  # the second one finds its kept connection stale, and its endpoint gone
        assert (await client.post(ask())).body == ANSWER
    assert [e.name for e in gateway.endpoints] == [other.url.removeprefix("http://")]


async def test_f06_a_stale_kept_connection_is_replaced_unnoticed(start: Start, engine: Engine) -> None:
    engine.script = whole(ANSWER)
    gateway = await start(engine, ejection={"failures": 1, "probe_interval_s": 60.0})
    client = await gateway.client()
    for count in range(3):
        assert (await client.post(ask())).body == ANSWER
        await eventually(lambda count=count: len(engine.open) == 1)  # type: ignore[misc]  # mypy cannot infer it
        engine.close_idle()
        await eventually(lambda: not engine.open)
    assert engine.connections == 3

    async def dies_when_asked_again(exchange: Exchange) -> None:
        if len(engine.requests) == 5:
            exchange.reset()
        else:
            await whole(ANSWER)(exchange)

    engine.script = dies_when_asked_again
    assert (await client.post(ask())).body == ANSWER
    assert (await client.post(ask())).body == ANSWER
    assert len(engine.requests) == 6  # the fifth was cut, and asked again on a new connection
    assert not gateway.endpoints[0].health.ejected


async def test_f06_no_endpoint_at_all_is_a_503_with_the_reason(start: Start) -> None:
    gateway = await start(routes=RouteTable.of([Route("m", ("m",), (Revision("r", ()),))]), models=[])
    client = await gateway.client()
    for body in (ask(), ask_stream()):
        answer = await client.post(body)
        assert (answer.status, answer.error["code"]) == (503, "no_endpoint")
        assert "no replica of 'm' is ready" in answer.error["message"]
        assert answer.named[b"retry-after"] == b"1"
    assert (await gateway.record())["outcome"] == "engine_error"


async def test_f06_a_draining_endpoint_takes_nothing_new(start: Start, engine: Engine, other: Engine) -> None:
    engine.script = other.script = whole(ANSWER)
    ends = (Endpoint(engine.url, draining=True), Endpoint(other.url))
    gateway = await start(routes=RouteTable.of([Route("m", ("m",), (Revision("r", ends),))]), models=[])
    client = await gateway.client()
    for _ in range(5):
        assert (await client.post(ask())).status == 200
    assert engine.requests == []


# -- 7: the engine's own errors -----------------------------------------------------------------------------------

JSON = ("content-type", "application/json")
OWN = [
    (400, b'{"object":"error","message":"max_tokens is too large","type":"BadRequestError","code":400}', JSON),
    (401, b'{"error":"who are you"}', JSON),
    (404, b'{"error":{"message":"no model","type":"NotFoundError","param":"model","code":404}}', JSON),
    (418, b"I am a teapot", ("content-type", "text/plain")),
    (422, b'{"detail":[{"loc":["body","n"]}]}', JSON),
    (429, b'{"error":"later"}', ("retry-after", "17")),
    (500, b"<html>\xff\x00 oops</html>", ("content-type", "text/html")),
    (500, b"", JSON),
    (503, b'{"error":"loading"}', ("retry-after", "3")),
    (504, b"upstream timed out", ("content-type", "text/plain")),
    (302, b"", ("location", "/elsewhere")),
    (201, b'{"made":1}', JSON),
]


@pytest.mark.parametrize(("status", "body", "header"), OWN, ids=[f"{s}-{i}" for i, (s, _, _) in enumerate(OWN)])
async def test_f07_an_engines_own_answer_goes_on_untouched(
    start: Start, engine: Engine, status: int, body: bytes, header: tuple[str, str]
) -> None:
    engine.script = whole(body, status, header)
    gateway = await start(engine)
    client = await gateway.client()
    for request in (ask(), ask_stream()):
        answer = await client.post(request)
        assert (answer.status, bytes(answer.body)) == (status, body)
        assert answer.named[header[0].encode()] == header[1].encode()
        assert answer.named[b"content-length"] == b"%d" % len(body)
    record = (await gateway.records(2))[-1]
    assert record["status"] == status
    usual = "ok" if status < 400 else "client_error" if status < 500 else "engine_error"
    assert record["outcome"] == {429: "overloaded", 504: "timeout"}.get(status, usual)
    assert record.get("error_code") == (f"engine_{status}" if status >= 400 else None)


async def test_f07_an_answer_of_two_endpoints_that_say_not_now_is_the_last_ones(
    start: Start, engine: Engine, other: Engine
) -> None:
    engine.script = other.script = whole(b'{"error":"later"}', 429, ("retry-after", "17"))
    gateway = await start(engine, other)
    answer = await (await gateway.client()).post(ask())
    assert (answer.status, bytes(answer.body)) == (429, b'{"error":"later"}')
    assert answer.named[b"retry-after"] == b"17"
    assert (await gateway.record())["attempts"] == 2


async def test_f07_a_trailer_of_one_answer_is_not_a_header_of_the_next(start: Start, engine: Engine) -> None:
    trailed = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-trailer: 1\r\n\r\n"
    engine.script = in_turn(raw(trailed, close=False), whole(ANSWER))
    gateway = await start(engine)
    client = await gateway.client()
    assert (await client.post(ask())).body == b"{}"
    answer = await client.post(ask())
    assert b"x-trailer" not in answer.named
    assert engine.connections == 1


async def test_f07_interim_answers_are_skipped(start: Start, engine: Engine) -> None:
    body = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    engine.script = raw(interim, body, close=False)
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ask())
    assert (answer.status, bytes(answer.body)) == (200, b"{}")
    assert b"link" not in answer.named


async def test_f07_an_answer_nobody_asked_for_is_not_taken_for_the_next_ones(start: Start, engine: Engine) -> None:
    twice = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst"
    engine.script = in_turn(raw(twice + twice.replace(b"first", b"wrong"), close=False), whole(b"right"))
    gateway = await start(engine)
    client = await gateway.client()
    assert (await client.post(ask())).body == b"first"
    assert (await client.post(ask())).body == b"right"
    assert engine.connections == 2


async def test_f07_an_answer_before_the_whole_request_was_read(start: Start, engine: Engine) -> None:
    gateway = await start(engine)
    stuck: list[asyncio.Transport] = []

    class Hasty(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            stuck.append(cast("asyncio.Transport", transport))

        def data_received(self, data: bytes) -> None:
            stuck[-1].pause_reading()
            stuck[-1].write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")

    server = await asyncio.get_running_loop().create_server(Hasty, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gateway.app.set_routes(RouteTable.of([Route("m", ("m",), (Revision("r", (Endpoint(url),)),))]))
    answer = await (await gateway.client()).post(ask(image="x" * 10_000_000))
    assert (answer.status, bytes(answer.body)) == (413, b"big")
    await eventually(lambda: gateway.endpoints[0].pool.open_connections == 0)
    for transport in stuck:
        transport.abort()
    server.close()


async def test_f07_silence_is_no_answer(start: Start, engine: Engine, other: Engine) -> None:
    engine.script = other.script = silent
    gateway = await start(engine, other, timeouts={"first_byte_s": 0.1})
    answer = await (await gateway.client()).post(ask())
    assert answer.status == 504
    assert len(engine.requests) + len(other.requests) == 1  # the work may have been done: it is not asked for again


async def test_f06_failed_streams_are_told_through_done_marks_only_once(start: Start, engine: Engine) -> None:
    engine.script = raw(HEAD + b"%x\r\n%b\r\n" % (len(ROLE), ROLE))
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ask_stream())
    assert answer.body.count(DONE) == 1
