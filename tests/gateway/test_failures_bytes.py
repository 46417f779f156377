"""What is changed on the way to the engine and back, and that nothing else is. The same in every way of serving."""

import json
from typing import Any

import httpx
import pytest

from gateway.app import GatewayApp
from gateway.config import settings_of
from serving.routes import Endpoint, Revision, Route, RouteTable
from tests.gateway.chat import ANSWER, DONE, FINISH, ROLE, SEEN, STREAM, USAGE, ask, ask_stream, says
from tests.gateway.conftest import Start
from tests.gateway.engine import Engine, Exchange, Script, closing, streaming, whole
from tests.gateway.running import gateway, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

ODD = (
    b'{ "z":[1, 2.50,1e3] ,"model" : "m",\t"unknown_\\u00e9":{"a":null}, '
    b'"messages":[{"content":"\xc3\xa9\\ud83d\\ude00"}]}'
)


# -- bodies -------------------------------------------------------------------------------------------------------


async def forwarded(start: Start, engine: Engine, body: bytes, **route: Any) -> bytes:
    engine.script = whole(ANSWER)
    gateway = await start(engine, **route)
    assert (await (await gateway.client()).post(body)).status == 200
    return engine.requests[0].body


async def test_a_body_is_forwarded_byte_for_byte(start: Start, engine: Engine) -> None:
    assert await forwarded(start, engine, ODD) == ODD


async def test_asking_for_usage_adds_one_field_in_front_and_changes_no_other_byte(start: Start, engine: Engine) -> None:
    body = ODD[:-1] + b', "stream":true }'
    got = await forwarded(start, engine, body)
    assert got == b'{"stream_options":{"include_usage":true},' + body[1:]


async def test_other_stream_options_are_kept(start: Start, engine: Engine) -> None:
    options = b'{"continuous_usage_stats":true,"new_thing": [1]}'
    got = await forwarded(start, engine, b'{"model":"m","stream":true,"stream_options":%b,"a": 1.0}' % options)
    assert json.loads(got)["stream_options"] == json.loads(options) | {"include_usage": True}
    assert b'"a":1.0' in got
    assert b'"new_thing":[1]' in got or b'"new_thing": [1]' in got


@pytest.mark.parametrize("asked", ["alias", "m"])
async def test_a_model_name_is_rewritten_and_every_other_value_keeps_its_bytes(
    start: Start, engine: Engine, asked: str
) -> None:
    ends = (Endpoint(engine.url, model="org/real name"),)
    table = RouteTable.of([Route("m", ("m", "alias"), (Revision("r", ends),))])
    got = await forwarded(start, engine, ODD.replace(b'"m"', b'"%b"' % asked.encode()), routes=table, models=[])
    assert json.loads(got) == json.loads(ODD) | {"model": "org/real name"}
    for value in (b"[1, 2.50,1e3]", b'{"a":null}', b'[{"content":"\xc3\xa9\\ud83d\\ude00"}]'):
        assert value in got


async def test_an_alias_is_rewritten_to_the_models_own_name(start: Start, engine: Engine) -> None:
    models = [{"name": "m", "aliases": ["alias"], "endpoints": [{"url": engine.url}]}]
    got = await forwarded(start, engine, b'{"model":"alias"}', models=models)
    assert json.loads(got) == {"model": "m"}


@pytest.mark.parametrize("path", ["embeddings", "rerank", "responses", "completions", "chat/completions"])
async def test_each_path_reaches_its_own_with_its_query(start: Start, engine: Engine, path: str) -> None:
    engine.script = whole(ANSWER)
    gateway = await start(engine)
    client = await gateway.client()
    for prefix in ("/v1", "/openai/v1"):
        await client.post({"model": "m"}, f"{prefix}/{path}?a=b&c=%20")
        assert engine.requests[-1].line == f"POST /v1/{path}?a=b&c=%20 HTTP/1.1".encode()


async def test_an_engines_path_prefix_is_kept(start: Start, engine: Engine) -> None:
    engine.script = whole(ANSWER)
    gateway = await start(f"{engine.url}/engines/llama")
    await (await gateway.client()).post(ask())
    assert engine.requests[0].line == b"POST /engines/llama/v1/chat/completions HTTP/1.1"


# -- headers ------------------------------------------------------------------------------------------------------


async def test_headers_to_the_engine(start: Start, engine: Engine) -> None:
    models = [{"name": "m", "endpoints": [{"url": engine.url, "api_key": "engine-key"}]}]
    engine.script = whole(ANSWER)
    gateway = await start(models=models)
    given = {
        "Authorization": "Bearer client-key",
        "Api-Key": "client-key",
        "Cookie": "a=b",
        "TE": "trailers",
        "Keep-Alive": "timeout=5",
        "Proxy-Authorization": "Basic x",
        "Connection": "keep-alive, x-mine-alone",
        "X-Mine-Alone": "1",
        "Accept-Encoding": "gzip",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Tracestate": "a=b",
        "X-Custom": "kept",
        "Content-Type": "application/json; charset=utf-8",
        "X-Request-Id": "mine-1",
    }
    assert (await (await gateway.client()).post(ask(), headers=given)).status == 200
    got = engine.requests[0].named
    assert b"client-key" not in engine.requests[0].head
    assert got.pop(b"content-length") == b"%d" % len(engine.requests[0].body)
    assert got == {
        b"host": engine.url.removeprefix("http://").encode(),
        b"authorization": b"Bearer engine-key",
        b"traceparent": given["Traceparent"].encode(),
        b"tracestate": b"a=b",
        b"x-custom": b"kept",
        b"content-type": b"application/json; charset=utf-8",
        b"x-request-id": b"mine-1",
    }


async def test_headers_to_the_client(start: Start, engine: Engine) -> None:
    engine.script = whole(
        ANSWER,
        200,
        ("Content-Type", "application/json"),
        ("X-Engine", "kept"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Server", "engine"),
        ("Date", "long ago"),
        ("Keep-Alive", "timeout=5"),
        ("Connection", "keep-alive, x-hop"),
        ("X-Hop", "1"),
        ("X-Request-Id", "the engine's own"),
        ("X-Empty", ""),
    )
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ask(), headers={"X-Request-Id": "mine"})
    names = [name for name, _ in answer.headers]
    assert answer.named[b"x-engine"] == b"kept"
    assert [v for n, v in answer.headers if n == b"set-cookie"] == [b"a=1", b"b=2"]
    assert [v for n, v in answer.headers if n == b"x-request-id"] == [b"mine"]
    assert not {b"x-hop", b"keep-alive"} & set(names)
    assert names.count(b"date") <= 1
    assert b"long ago" not in dict(answer.headers).values()
    assert b"engine" not in [v for n, v in answer.headers if n == b"server"]


@pytest.mark.parametrize("given", ["a", "x" * 128, "abc-123_!~", None, "", "x" * 129, "caf\xe9", "tab\there"])
async def test_request_ids_are_accepted_returned_generated_and_sanitised(
    start: Start, engine: Engine, given: str | None
) -> None:
    gateway = await start(engine)
    client = await gateway.client()
    headers = b"" if given is None else b"x-request-id: %b\r\n" % given.encode("latin-1")
    body = b'{"model":"m"}'
    client.transport.write(
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\n%bcontent-length: %d\r\n\r\n%b" % (headers, len(body), body)
    )
    returned = (await client.whole()).named[b"x-request-id"].decode()
    if given is not None and given in ("a", "x" * 128, "abc-123_!~"):
        assert returned == given
    else:
        assert returned.startswith("req-")
        assert returned != given
    assert engine.requests[0].named[b"x-request-id"].decode() == returned
    assert (await gateway.record())["request_id"] == returned


async def test_generated_request_ids_differ_and_come_with_errors_too(start: Start, engine: Engine) -> None:
    gateway = await start(engine)
    client = await gateway.client()
    ids = [(await client.post(ask(model))).named[b"x-request-id"] for model in ("m", "m", "unknown", "unknown")]
    assert len(set(ids)) == 4


# -- the same in every way of serving -----------------------------------------------------------------------------

CASES: dict[str, tuple[Script, dict[str, Any] | bytes]] = {
    "whole": (whole(ANSWER), ask()),
    "stream": (streaming(*STREAM), ask_stream()),
    "stream with usage": (streaming(*STREAM), ask_stream(stream_options={"include_usage": True})),
    "one chunk": (streaming(b"".join(STREAM)), ask_stream()),
    "split": (streaming(*[bytes([b]) for b in b"".join(STREAM)]), ask_stream()),
    "long": (streaming(ROLE, *[says(f"word {i} ") for i in range(300)], FINISH, USAGE, DONE), ask_stream()),
    "no done": (streaming(*STREAM[:-1]), ask_stream()),
    "crlf": (streaming(*[e.replace(b"\n", b"\r\n") for e in STREAM]), ask_stream()),
    "comments": (streaming(b": hi\n\n", *STREAM), ask_stream()),
    "error event": (streaming(ROLE, b'data: {"error":"broken"}\n\n', end=False), ask_stream()),
    "engine 400": (whole(b'{"error":"bad"}', 400), ask_stream()),
    "engine 500": (whole(b"<html>", 500, ("content-type", "text/html")), ask()),
    "engine 503": (whole(b"", 503, ("retry-after", "9")), ask()),
    "no answer": (closing, ask()),
    "empty": (whole(b""), ask()),
    "event of 1 MB": (streaming(ROLE, says("x" * 1_000_000), FINISH, DONE), ask_stream()),
    "unknown model": (whole(ANSWER), ask("nope")),
    "not JSON": (whole(ANSWER), b"{"),
    "wrong type": (whole(ANSWER), ask(stream="yes")),
    "no model": (whole(ANSWER), {"messages": []}),
}
Seen = tuple[int, list[tuple[bytes, bytes]], bytes]
LEFT_OUT = (b"date", b"server", b"transfer-encoding", b"content-length")


def told(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return sorted(h for h in headers if h[0] not in LEFT_OUT)


async def in_process(engine: Engine, body: bytes) -> Seen:
    app = GatewayApp(settings_of(settings_for(engine)), write_log=lambda _: None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        answer = await client.post("/v1/chat/completions", content=body, headers={"x-request-id": "same"})
    await app.stop()
    return answer.status_code, told([(n.lower(), v) for n, v in answer.headers.raw]), answer.content


@pytest.mark.parametrize("case", CASES)
async def test_every_way_of_serving_gives_the_same_bytes(engine: Engine, case: str) -> None:
    engine.script, asked = CASES[case]
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    seen: list[Seen] = []
    for mode in ("splice", "asgi"):
        async with gateway(mode, engine) as running:
            answer = await (await running.client()).post(body, headers={"x-request-id": "same"})
            seen.append((answer.status, told(answer.headers), bytes(answer.body)))
    seen.append(await in_process(engine, body))
    assert seen[0] == seen[1] == seen[2]
    if case in ("stream", "one chunk", "split", "no done"):
        assert seen[0][2] == SEEN


async def test_a_cut_large_answer_raises_in_process(engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(200, ("content-length", str(20_000_000)))
        await exchange.write(bytes(10_000_000))
        exchange.close()

    engine.script = script
    with pytest.raises(ConnectionResetError):
        await in_process(engine, b'{"model":"m"}')
