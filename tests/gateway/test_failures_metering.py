"""Failures 24 and 25, and what is measured: metrics, the access log, keys kept out of both, nothing left behind."""

import asyncio
import gc
import json
import random
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.gateway.chat import ANSWER, DONE, FINISH, ROLE, SEEN, STREAM, USAGE, ask, ask_stream, says
from tests.gateway.conftest import Start
from tests.gateway.engine import Engine, Exchange, closing, refusing, resetting, streaming, whole
from tests.gateway.running import Gateway, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAUSE_S = 0.3


async def test_times_and_tokens_of_a_stream(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(ROLE)
        await asyncio.sleep(PAUSE_S)
        await exchange.chunk(says("a"))
        await asyncio.sleep(PAUSE_S)
        await exchange.chunk(says("b"))
        await exchange.chunk(FINISH + USAGE)
        await exchange.chunk(DONE)
        await exchange.end()

    engine.script = script
    gateway = await start(engine)
    await (await gateway.client()).post(ask_stream())
    record = await gateway.record()
    assert PAUSE_S * 0.9 < record["ttft_s"] < 2 * PAUSE_S * 0.95  # the first content, not the role
    assert PAUSE_S / 2 * 0.9 < record["tpot_s"] < PAUSE_S * 1.5  # over two tokens after the first
    assert 2 * PAUSE_S * 0.95 < record["duration_s"] < 10
    assert (record["tokens_in"], record["tokens_out"]) == (7, 3)
    labels = {"service": "m", "tenant": "anonymous"}
    for name, value in {
        "gen_ai_server_time_to_first_token_seconds_count": 1,
        "gen_ai_server_time_per_output_token_seconds_count": 1,
        "gen_ai_server_request_duration_seconds_count": 1,
        "penstock_requests_total": 1,
        "penstock_requests_in_flight": 0,
        "penstock_retries_total": 0,
    }.items():
        assert await gateway.metric(name, **labels) == value, name
    assert await gateway.metric("gen_ai_client_token_usage_sum", gen_ai_token_type="input") == 7
    assert await gateway.metric("gen_ai_client_token_usage_sum", gen_ai_token_type="output") == 3


async def test_the_time_of_the_last_token_counts_though_no_usage_follows(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(says("a"), says("b"))
        await asyncio.sleep(PAUSE_S)
        await exchange.chunk(says("c"))
        await exchange.end()

    engine.script = script
    gateway = await start(engine)
    await (await gateway.client()).post(ask_stream())
    record = await gateway.record()
    assert record["tokens_out"] == 3
    assert PAUSE_S / 2 * 0.9 < record["tpot_s"] < PAUSE_S * 2


async def test_tokens_of_a_whole_answer(start: Start, engine: Engine) -> None:
    engine.script = whole(ANSWER)
    gateway = await start(engine)
    await (await gateway.client()).post(ask())
    record = await gateway.record()
    assert (record["tokens_in"], record["tokens_out"]) == (7, 3)
    assert "ttft_s" not in record


async def test_a_line_of_the_access_log(start: Start, engine: Engine) -> None:
    engine.script = streaming(*STREAM)
    gateway = await start(engine)
    body = json.dumps(ask_stream()).encode()
    await (await gateway.client()).post(body, "/openai/v1/chat/completions", {"x-request-id": "mine"})
    record = await gateway.record()
    times = {name: record.pop(name) for name in ("time", "duration_s", "ttft_s", "tpot_s")}
    assert all(isinstance(value, float) for value in times.values())
    assert times["time"] > 1_700_000_000
    assert record == {
        "path": "/openai/v1/chat/completions",
        "request_id": "mine",
        "status": 200,
        "outcome": "ok",
        "tokens_in": 7,
        "tokens_out": 3,
        "model": "m",
        "service": "m",
        "tenant": "anonymous",
        "stream": True,
        "bytes_in": len(body),
        "endpoint": engine.url.removeprefix("http://"),
        "attempts": 1,
    }


async def mixed(gateway: Gateway, draw: random.Random, kind: int) -> None:
    client = await gateway.client()
    if kind == 0:
        assert (await client.post(ask_stream())).body == SEEN
    elif kind == 1:
        await client.post(ask())
    elif kind == 2:
        await client.post(ask("unknown"))
    elif kind == 3:
        client.send(ask_stream())
        await asyncio.sleep(draw.random() * 0.01)
    elif kind == 4:
        client.send(ask(slow=True))
        await asyncio.sleep(draw.random() * 0.01)
    else:
        await client.post(ask(broken=True))
    client.hang_up()


async def test_f24_descriptors_tasks_and_counts_return_to_where_they_were(start: Start, engine: Engine) -> None:
    async def script(exchange: Exchange) -> None:
        asked = exchange.request.json()
        if asked.get("slow"):
            await asyncio.wait((asyncio.create_task(exchange.gone.wait()),), timeout=0.5)
        if asked.get("broken"):
            await closing(exchange)
        elif asked.get("stream"):
            await streaming(*STREAM)(exchange)
        else:
            await whole(ANSWER)(exchange)
        engine.exchanges.clear()

    engine.script = script
    draw = random.Random(20)
    limits = {"connections_per_endpoint": 20, "waiting_requests": 1000}
    gateway = await start(engine, limits=limits)
    for kind in range(6):
        await mixed(gateway, draw, kind)

    async def census() -> tuple[int, int, int]:
        await eventually(lambda: gateway.in_flight == 0)
        for endpoint in gateway.endpoints:
            endpoint.pool.expire(float("inf"))
        await eventually(lambda: not engine.open and all(e.pool.open_connections == 0 for e in gateway.endpoints))
        await gateway.close_clients()
        await asyncio.sleep(0.3)  # for what closes in its own time
        gc.collect()
        return psutil.Process().num_fds(), len(asyncio.all_tasks()), len(gc.get_objects())

    descriptors, tasks, objects = await census()
    for _ in range(5):
        await asyncio.gather(*(mixed(gateway, draw, kind % 6) for kind in range(100)))
    after = await census()
    assert after[0] <= descriptors
    assert after[1] <= tasks
    assert after[2] < objects + 3000  # clients, log lines and the like; a request leaves nothing
    running = await gateway.metric("penstock_requests_in_flight")
    assert running == 0
    total = await gateway.metric("penstock_requests_total")
    assert total == 506


@pytest.mark.parametrize("kind", ["ok", "unknown", "refused", "broken", "error event", "400", "hang-up"])
async def test_f24_nothing_is_in_flight_after_any_kind_of_end(start: Start, engine: Engine, kind: str) -> None:
    scripts: dict[str, Any] = {
        "ok": streaming(*STREAM),
        "broken": resetting,
        "error event": streaming(b'data: {"error":"x"}\n\n'),
        "400": whole(b"{}", 400),
    }
    engine.script = scripts.get(kind, whole(ANSWER))
    with refusing() as nowhere:
        gateway = await start(nowhere if kind == "refused" else engine)
        client = await gateway.client()
        await client.post(ask_stream("unknown" if kind == "unknown" else "m"))
        await gateway.records()
    assert gateway.in_flight == 0
    assert await gateway.metric("penstock_endpoint_requests_in_flight") == 0
    assert await gateway.metric("penstock_endpoint_tokens_in_flight") == 0


async def test_f25_keys_are_nowhere_to_be_read(
    start: Start, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    keys = tmp_path / "keys"
    keys.write_text("sk-client-secret-1 team-a\n")
    models = [{"name": "m", "endpoints": [{"url": engine.url, "api_key": "sk-engine-secret-2"}]}]
    gateway = await start(models=models, keys_file=str(keys))
    seen: list[bytes] = []
    client = await gateway.client()
    for headers, status in (
        ({"Authorization": "Bearer sk-client-secret-1"}, 200),
        ({"Authorization": "Bearer sk-wrong-secret-3"}, 401),
        ({"Authorization": "Basic sk-wrong-secret-3"}, 401),
        ({}, 401),
    ):
        answer = await client.post(ask(), headers=headers)
        assert answer.status == status
        seen.append(bytes(answer.body) + repr(answer.headers).encode())
    for script in (resetting, whole(b"no", 500), streaming(b'data: {"error":"x"}\n\n')):
        engine.script = script
        answer = await client.post(ask_stream(), headers={"Authorization": "Bearer sk-client-secret-1"})
        seen.append(bytes(answer.body) + repr(answer.headers).encode())
    await gateway.records(7)
    everything = b"".join(seen) + gateway.log + (await gateway.metrics()).encode() + caplog.text.encode()
    everything += repr(gateway.app.settings).encode() + repr([e.address for e in gateway.endpoints]).encode()
    assert b"secret" not in everything
    assert {r["tenant"] for r in await gateway.records(7) if r["status"] != 401} == {"team-a"}
    assert engine.requests[0].named[b"authorization"] == b"Bearer sk-engine-secret-2"


async def test_what_the_pipeline_does_not_serve_has_a_line_too_and_probes_have_none(
    start: Start, engine: Engine
) -> None:
    gateway = await start(engine)
    client = await gateway.client()
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/none", "/nowhere"):
        await client.get(path)
    lines = await gateway.records(3)
    assert [(line["path"], line["status"], line["outcome"]) for line in lines] == [
        ("/v1/models", 200, "ok"),
        ("/v1/models/none", 404, "client_error"),
        ("/nowhere", 404, "client_error"),
    ]
