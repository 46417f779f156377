"""The same failures for generate requests, which are answered in another protocol's words."""

import asyncio
import json
from typing import Any

import pytest

from tests.gateway.client import Answer
from tests.gateway.conftest import Start
from tests.gateway.engine import Engine, Exchange, closing, silent, streaming, whole
from tests.gateway.running import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE, STREAM = "/v2/models/m/generate", "/v2/models/m/generate_stream"
ASK = {"text_input": "Hi"}
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'


def says(text: str, finish: str = "null") -> bytes:
    return b'data: {"choices":[{"index":0,"text":"%b","finish_reason":%b}]}\n\n' % (text.encode(), finish.encode())


EVENTS = (says("Hel"), says("lo"), says("", '"stop"'), USAGE, DONE)


def texts(answer: Answer) -> list[str]:
    return [json.loads(e).get("text_output") for e in answer.events]


@pytest.mark.parametrize("split", [1, 7, 10_000])
async def test_a_stream_in_any_pieces(start: Start, engine: Engine, split: int) -> None:
    body = b"".join(EVENTS)
    engine.script = streaming(*[body[i : i + split] for i in range(0, len(body), split)])
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ASK, STREAM)
    assert "".join(t or "" for t in texts(answer)) == "Hello"
    assert b"DONE" not in answer.body
    record = await gateway.record()
    assert (record["outcome"], record["tokens_in"], record["tokens_out"]) == ("ok", 7, 3)


async def test_a_whole_answer(start: Start, engine: Engine) -> None:
    engine.script = whole(b'{"choices":[{"text":"Hello","finish_reason":"stop"}],"usage":{"prompt_tokens":7}}')
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ASK, WHOLE)
    assert (answer.status, answer.json()["text_output"]) == (200, "Hello")
    assert engine.requests[0].line == b"POST /v1/completions HTTP/1.1"


@pytest.mark.parametrize("path", [WHOLE, STREAM])
async def test_f01_hangup_stops_the_engine_at_once(start: Start, engine: Engine, path: str) -> None:
    engine.script = silent
    gateway = await start(engine)
    client = await gateway.client()
    client.send(ASK, path)
    exchange = await engine.exchange()
    client.hang_up()
    await asyncio.wait_for(exchange.gone.wait(), 1)
    await eventually(lambda: gateway.in_flight == 0)
    assert (await gateway.record())["outcome"] == "client_closed"


async def test_f02_comments_before_the_engine_answers_and_late_errors(start: Start, engine: Engine) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await exchange.answer(500, b"<html>")

    engine.script = script
    gateway = await start(engine, keepalive_comment_s=0.05)
    client = await gateway.client()
    client.send(ASK, STREAM)
    await client.sees(b": keep-alive\n\n")
    go.set()
    answer = await client.whole()
    assert "500" in json.loads(answer.events[0])["error"]
    assert len(answer.events) == 1


ENDS: list[tuple[Any, str, int, str]] = [
    (closing, WHOLE, 424, "dropped the request"),
    (closing, STREAM, 424, "dropped the request"),
    (whole(b'{"error":{"message":"too long"}}', 400), WHOLE, 422, "too long"),
    (whole(b"<html>", 500), STREAM, 424, "without saying why"),
    (whole(b'{"error":"later"}', 429), STREAM, 429, "later"),
    (whole(b"not JSON"), WHOLE, 424, "not a completion"),
    (whole(b""), WHOLE, 424, "not a completion"),
]


@pytest.mark.parametrize(("script", "path", "status", "text"), ENDS)
async def test_f07_errors_in_the_protocols_shape(
    start: Start, engine: Engine, script: Any, path: str, status: int, text: str
) -> None:
    engine.script = script
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ASK, path)
    assert answer.status == status
    assert text in answer.json()["error"]
    assert gateway.in_flight == 0


@pytest.mark.parametrize("mishap", ["cut", "error", "finish"])
async def test_f06_a_stream_that_breaks_says_so(start: Start, engine: Engine, mishap: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(says("Hel"))
        if mishap == "error":
            await exchange.chunk(b'data: {"error":"boom"}\n\n')
        elif mishap == "finish":
            await exchange.chunk(says("", '"abort"') + DONE)
            await exchange.end()
        else:
            await asyncio.sleep(0.02)
            exchange.reset()

    engine.script = script
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ASK, STREAM)
    assert texts(answer)[0] == "Hel"
    assert "error" in json.loads(answer.events[-1])
    assert len(answer.events) == 2


async def test_a_large_whole_answer_is_translated_too(start: Start, engine: Engine) -> None:
    text = "x" * 10_000_000
    engine.script = whole(json.dumps({"choices": [{"text": text, "finish_reason": "stop"}]}).encode())
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ASK, WHOLE)
    assert answer.json()["text_output"] == text


async def test_a_large_whole_answer_that_is_cut_is_an_error(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(200, ("content-length", "20000000"), ("content-type", "application/json"))
        await exchange.write(bytes(10_000_000))
        exchange.close()

    engine.script = script
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ASK, WHOLE)
    assert (answer.status, answer.named[b"content-type"]) == (424, b"application/json")
    assert "broke off" in answer.json()["error"]


async def test_what_is_no_stream_is_still_told_in_the_protocols_words(start: Start, engine: Engine) -> None:
    engine.script = whole(b'{"choices":[{"text":"Hello","finish_reason":"stop"}]}')
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ASK, STREAM)
    assert answer.json()["text_output"] == "Hello"
