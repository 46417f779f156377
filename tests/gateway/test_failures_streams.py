"""Failures 2 to 5: late first tokens, buffering, errors inside a stream, and streams that end in odd ways."""

import asyncio
import json
from typing import Any

import pytest

from tests.gateway.chat import ANSWER, DONE, FINISH, ROLE, SEEN, STREAM, USAGE, ask, ask_stream, says
from tests.gateway.conftest import Start
from tests.gateway.engine import Engine, Exchange, raw, streaming, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMMENT = b": keep-alive\n\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


# -- 2: slow first token ------------------------------------------------------------------------------------------


async def test_f02_comments_come_before_the_engine_answers(start: Start, engine: Engine) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await streaming(*STREAM)(exchange)

    engine.script = script
    gateway = await start(engine, keepalive_comment_s=0.05)
    client = await gateway.client()
    client.send(ask_stream())
    answer = await client.sees(COMMENT * 2)
    assert answer.status == 200
    assert answer.named[b"content-type"].startswith(b"text/event-stream")
    go.set()
    await client.whole()
    assert answer.body.replace(COMMENT, b"") == SEEN
    assert (await gateway.record())["ttft_s"] > 0.05


async def test_f02_comments_come_between_the_head_and_the_first_content(start: Start, engine: Engine) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.stream(ROLE)
        await go.wait()
        for piece in STREAM[1:]:
            await exchange.chunk(piece)
        await exchange.end()

    engine.script = script
    gateway = await start(engine, keepalive_comment_s=0.05)
    client = await gateway.client()
    client.send(ask_stream())
    answer = await client.sees(ROLE + COMMENT * 2)
    go.set()
    await client.whole()
    assert answer.body.replace(COMMENT, b"") == SEEN


async def test_f02_comments_never_cut_into_an_event(start: Start, engine: Engine) -> None:
    go = asyncio.Event()
    event = says("Hello")

    async def script(exchange: Exchange) -> None:
        await exchange.stream(ROLE, event[:20])
        await go.wait()
        await exchange.chunk(event[20:])
        await exchange.chunk(DONE)
        await exchange.end()

    engine.script = script
    gateway = await start(engine, keepalive_comment_s=0.05)
    client = await gateway.client()
    client.send(ask_stream())
    await client.sees(COMMENT * 2)
    go.set()
    answer = await client.whole()
    assert answer.body.replace(COMMENT, b"") == ROLE + event + DONE


async def test_f02_no_comments_on_whole_answers(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(0.5)
        await whole(ANSWER)(exchange)

    engine.script = script
    gateway = await start(engine, keepalive_comment_s=0.05)
    answer = await (await gateway.client()).post(ask())
    assert answer.body == ANSWER
    assert answer.named[b"content-length"] == b"%d" % len(ANSWER)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"error":{"message":"too long","type":"t","param":"p","code":"c"}}', "too long"),
        (500, b'{"object":"error","message":"boom","type":"x","code":5}', "boom"),
        (500, b'{"detail":"no such thing"}', "no such thing"),
        (502, b"<html>bad gateway</html>", "502"),
        (500, b"", "500"),
        (500, b"[1]", "500"),
        (500, b'{"a":"\xff"}', "500"),
        (503, b'{"error":"overloaded"}', "overloaded"),
    ],
)
async def test_f02_an_engine_error_after_comments_arrives_in_the_stream(
    start: Start, engine: Engine, status: int, body: bytes, message: str
) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await exchange.answer(status, body)

    engine.script = script
    gateway = await start(engine, keepalive_comment_s=0.05)
    client = await gateway.client()
    client.send(ask_stream())
    await client.sees(COMMENT)
    go.set()
    answer = await client.whole()
    error, done = answer.events
    assert done == "[DONE]"
    assert message in json.loads(error)["error"]["message"]
    assert set(json.loads(error)["error"]) >= {"message", "type", "param", "code"}
    record = await gateway.record()
    assert record["outcome"] == ("client_error" if status == 400 else "engine_error")
    assert gateway.in_flight == 0


async def test_f02_a_whole_answer_after_comments_is_one_event(start: Start, engine: Engine) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await exchange.answer(200, b'{\n"choices":\n[]}')

    engine.script = script
    gateway = await start(engine, keepalive_comment_s=0.05)
    client = await gateway.client()
    client.send(ask_stream())
    await client.sees(COMMENT)
    go.set()
    answer = await client.whole()
    assert [json.loads(answer.events[0]), answer.events[1]] == [{"choices": []}, "[DONE]"]


# -- 3: buffering -------------------------------------------------------------------------------------------------


async def test_f03_each_chunk_goes_on_before_the_next_one_comes(start: Start, engine: Engine) -> None:
    seen = asyncio.Queue[None]()

    async def script(exchange: Exchange) -> None:
        await exchange.stream()
        for piece in STREAM[:-1]:
            await exchange.chunk(piece)
            if piece != USAGE:
                await seen.get()  # the client has it
        await exchange.chunk(DONE)
        await exchange.end()

    engine.script = script
    gateway = await start(engine)
    client = await gateway.client()
    client.send(ask_stream())
    for piece in (ROLE, says("Hel"), says("lo"), FINISH):
        await client.sees(piece)
        seen.put_nowait(None)
    assert (await client.whole()).body == SEEN


# -- 4: errors inside a stream ------------------------------------------------------------------------------------

ERRORS = [
    b'{"error":{"message":"out of memory","type":"server_error","param":null,"code":"oom"}}',
    b'{"error": {"message": "out of memory", "code": 500}}',
    b'{"error":"out of memory"}',
    b'{"error":"out of memory","error_type":"generation"}',
    b'{"object":"error","message":"out of memory","type":"BadRequestError","param":null,"code":400}',
    b'{"type":"error","message":"out of memory","code":"server_error"}',
]


@pytest.mark.parametrize("payload", ERRORS)
async def test_f04_an_error_event_is_a_failure_and_ends_the_stream(
    start: Start, engine: Engine, payload: bytes
) -> None:
    gateway = await start(engine)
    for before in ((), (ROLE,), (ROLE, says("Hel"), says("lo"))):
        engine.script = streaming(*before, b"data: %b\n\n" % payload, says("never seen"), DONE, end=False)
        answer = await (await gateway.client()).post(ask_stream())
        assert answer.body.startswith(b"".join(before))
        assert b"never seen" not in answer.body
        *_, error, done = answer.events
        assert done == "[DONE]"
        shape = json.loads(error)["error"]
        assert shape["message"] == "out of memory"
        assert set(shape) >= {"message", "type", "param", "code"}
        await engine.exchanges[-1].until_gone()
    for record in await gateway.records(3):
        assert (record["outcome"], record["error_code"]) == ("engine_error", "stream_error")
    assert await gateway.metric("penstock_requests_total", outcome="engine_error") == 3


async def test_f04_the_word_error_in_text_is_no_error(start: Start, engine: Engine) -> None:
    events = (ROLE, says('{"error": "said the model"}'), says("data: [DONE]"), says('"usage_tokens"'), FINISH, DONE)
    engine.script = streaming(*events)
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ask_stream())
    assert answer.body == b"".join(events)
    assert (await gateway.record())["outcome"] == "ok"


async def test_f04_a_null_error_is_no_error(start: Start, engine: Engine) -> None:
    event = b'data: {"error":null,"choices":[{"delta":{"content":"Hi"}}]}\n\n'
    engine.script = streaming(event, event, DONE)
    gateway = await start(engine)
    assert (await (await gateway.client()).post(ask_stream())).body == event + event + DONE


async def test_f04_errors_in_streams_eject_the_endpoint(start: Start, engine: Engine) -> None:
    engine.script = streaming(b'data: {"error":"broken"}\n\n')
    gateway = await start(engine, ejection={"failures": 2, "probe_interval_s": 60.0})
    for _ in range(2):
        await (await gateway.client()).post(ask_stream())
    await gateway.records(2)
    assert gateway.endpoints[0].health.ejected


async def test_f04_an_error_event_without_its_blank_line_counts(start: Start, engine: Engine) -> None:
    engine.script = streaming(ROLE, b'data: {"error":"broken"}')
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ask_stream())
    assert json.loads(answer.events[-2])["error"]["message"] == "broken"
    assert answer.body.endswith(DONE)
    assert (await gateway.record())["outcome"] == "engine_error"


# -- 5: odd ends --------------------------------------------------------------------------------------------------


async def relayed(start: Start, engine: Engine, *events: bytes, **fields: Any) -> bytes:
    engine.script = streaming(*events)
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ask_stream(**fields))
    assert (await gateway.record())["outcome"] == "ok"
    return bytes(answer.body)


async def test_f05_a_missing_done_mark_is_added(start: Start, engine: Engine) -> None:
    assert await relayed(start, engine, *STREAM[:-1]) == SEEN


async def test_f05_a_double_done_mark_goes_on_once(start: Start, engine: Engine) -> None:
    assert await relayed(start, engine, *STREAM, DONE, DONE + DONE) == SEEN


async def test_f05_a_done_mark_without_its_blank_line_counts(start: Start, engine: Engine) -> None:
    assert await relayed(start, engine, *STREAM[:-1], b"data: [DONE]") == SEEN


async def test_f05_a_usage_chunk_not_asked_for_is_removed(start: Start, engine: Engine) -> None:
    assert await relayed(start, engine, *STREAM) == SEEN
    assert engine.requests[0].json()["stream_options"] == {"include_usage": True}


async def test_f05_a_usage_chunk_without_choices_is_removed_too(start: Start, engine: Engine) -> None:
    bare = b'data: {"id":"c","usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
    assert await relayed(start, engine, *STREAM[:-2], bare, DONE) == SEEN


async def test_f05_a_usage_chunk_asked_for_is_kept_and_so_are_null_usages(start: Start, engine: Engine) -> None:
    nulls = tuple(e.replace(b'"choices"', b'"usage":null,"choices"') for e in STREAM[:-2])
    events = (*nulls, USAGE, DONE)
    body = await relayed(start, engine, *events, stream_options={"include_usage": True})
    assert body == b"".join(events)


async def test_f05_usage_in_the_finish_chunk_is_counted_and_kept(start: Start, engine: Engine) -> None:
    finish = FINISH.replace(b'"choices"', b'"usage":{"prompt_tokens":7,"completion_tokens":3},"choices"')
    events = (ROLE, says("Hel"), says("lo"), finish, DONE)
    engine.script = streaming(*events)
    gateway = await start(engine)
    answer = await (await gateway.client()).post(ask_stream())
    assert answer.body == b"".join(events)
    record = await gateway.record()
    assert (record["tokens_in"], record["tokens_out"]) == (7, 3)


async def test_f05_usage_in_every_chunk_is_counted_once(start: Start, engine: Engine) -> None:
    event = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":7,"completion_tokens":%d}}\n\n'
    events = [event % n for n in (1, 2, 3)]
    engine.script = streaming(*events, DONE)
    gateway = await start(engine)
    assert (await (await gateway.client()).post(ask_stream())).body == b"".join(events) + DONE
    record = await gateway.record()
    assert (record["tokens_in"], record["tokens_out"]) == (7, 3)


async def test_f05_chunks_are_counted_where_there_is_no_usage(start: Start, engine: Engine) -> None:
    engine.script = streaming(ROLE, *[says("a")] * 5, FINISH)
    gateway = await start(engine)
    await (await gateway.client()).post(ask_stream())
    assert 5 <= (await gateway.record())["tokens_out"] <= 6


async def test_f05_tool_calls_with_a_null_finish_reason_pass(start: Start, engine: Engine) -> None:
    call = (
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a"}}]},'
        b'"finish_reason":null}]}\n\n'
    )
    events = (ROLE, call, call, DONE)
    assert await relayed(start, engine, *events) == b"".join(events)


async def test_f05_crlf_line_ends_pass(start: Start, engine: Engine) -> None:
    events = [e.replace(b"\n", b"\r\n") for e in STREAM]
    body = await relayed(start, engine, *events)
    assert body == b"".join(events[:-2]) + DONE


async def test_f05_comments_of_the_engine_pass(start: Start, engine: Engine) -> None:
    ping = b": ping\n\n"
    body = await relayed(start, engine, ping, ROLE, ping, says("a"), ping, ping + says("b"), FINISH, USAGE, ping, DONE)
    assert body == ping + ROLE + ping + says("a") + ping + ping + says("b") + FINISH + ping + DONE


async def test_f05_a_stream_without_events_ends_with_the_done_mark(start: Start, engine: Engine) -> None:
    assert await relayed(start, engine) == DONE


async def test_f05_an_unframed_stream_that_ends_after_its_done_mark_is_whole(start: Start, engine: Engine) -> None:
    engine.script = raw(STREAM_HEAD + b"\r\n" + b"".join(STREAM))
    gateway = await start(engine)
    assert (await (await gateway.client()).post(ask_stream())).body == SEEN
    assert (await gateway.record())["outcome"] == "ok"


async def test_f05_an_unframed_stream_that_ends_before_its_done_mark_was_cut(start: Start, engine: Engine) -> None:
    gateway = await start(engine)
    for last in (says("Hel"), says("Hel")[:-2]):
        engine.script = raw(STREAM_HEAD + b"\r\n" + ROLE + last)
        answer = await (await gateway.client()).post(ask_stream())
        assert answer.body.startswith(ROLE + says("Hel"))
        assert json.loads(answer.events[-2])["error"]["code"] == "engine_bad_response"
    assert [r["outcome"] for r in await gateway.records(2)] == ["engine_error", "engine_error"]


async def test_f05_a_responses_stream_without_events_is_empty(start: Start, engine: Engine) -> None:
    engine.script = streaming()
    gateway = await start(engine)
    answer = await (await gateway.client()).post({"model": "m", "stream": True}, "/v1/responses")
    assert (answer.status, bytes(answer.body)) == (200, b"")


async def test_f05_responses_streams_are_left_as_they_are(start: Start, engine: Engine) -> None:
    events = (
        b'event: response.created\ndata: {"type":"response.created","response":{"error":null,"usage":null}}\n\n',
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hi"}\n\n',
        b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":%b}}\n\n'
        % b'{"input_tokens":7,"output_tokens":3,"total_tokens":10}',
    )
    engine.script = streaming(*events)
    gateway = await start(engine)
    answer = await (await gateway.client()).post({"model": "m", "input": "Hi", "stream": True}, "/v1/responses")
    assert answer.body == b"".join(events)
    record = await gateway.record()
    assert (record["outcome"], record["tokens_in"], record["tokens_out"]) == ("ok", 7, 3)
    assert "stream_options" not in engine.requests[0].json()
