"""The gateway's life as a server: how it begins, how it drains, and that nothing of it is left."""

import asyncio
import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import httpx
import pytest
import uvicorn

from gateway.app import GatewayApp
from gateway.server import GatewayServer
from tests.gateway.edge_case import BODY, GOOD, STREAM
from tests.gateway.edge_engine import EdgeEngine
from tests.gateway.edge_rig import PATIENCE_S, Rig, edge_settings, post, rig_of
from tests.gateway.edge_wire import Wire

HELD = b'{"model": "m", "hold": true}'
HELD_STREAM = b'{"model": "m", "hold": true, "stream": true}'
NOBODY = 9  # the port of the discard protocol, where no engine is


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class _Quiet(uvicorn.Server):
    """uvicorn as it comes, save for signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


# -- beginning -----------------------------------------------------------------------------------------------------


async def test_port_0_is_a_free_port_and_the_url_says_which() -> None:
    server = GatewayServer(edge_settings(NOBODY))
    await server.start()
    assert server.port > 0
    assert server.url == f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{server.url}/readyz")).json() == {"status": "ready"}
    await server.stop(0)


@pytest.mark.parametrize("listening", [True, False])
async def test_a_port_that_is_taken(listening: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        port = taken.getsockname()[1]
        server = GatewayServer(edge_settings(NOBODY, port=port))
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use") as caught:
            await server.start()
        assert caught.value.errno == errno.EADDRINUSE
        await server.stop()


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid", "a" * 70])
async def test_a_host_that_is_not_here(host: str) -> None:
    with pytest.raises(OSError, match=f"cannot listen on {host}:0"):
        await GatewayServer(edge_settings(NOBODY, host=host)).start()


async def test_two_gateways_cannot_share_a_port() -> None:
    first = GatewayServer(edge_settings(NOBODY))
    await first.start()
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{first.port}"):
        await GatewayServer(edge_settings(NOBODY, port=first.port)).start()
    await first.stop(0)
    again = GatewayServer(edge_settings(NOBODY, port=first.port))
    await again.start()
    await again.stop(0)


@pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "127.0.0.1")])
async def test_hosts(host: str, shown: str) -> None:
    server = GatewayServer(edge_settings(NOBODY, host=host))
    await server.start()
    assert server.url == f"http://{shown}:{server.port}"
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{server.url}/healthz")).status_code == 200
    await server.stop(0)


# -- end -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A gateway of this test's own."""
    with rig_of(timeouts={"drain_s": PATIENCE_S}) as running:
        yield running
        assert running.complaints.texts == []
        assert running.surprises == []


def stopping(rig: Rig, drain_s: float | None = None) -> Future[None]:
    """Begin to stop; the result is there once nothing new is accepted."""
    stop = asyncio.run_coroutine_threadsafe(rig.server.stop(drain_s), rig.loop)
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            rig.wire().close()
        except ConnectionRefusedError:
            return stop
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("body", [HELD, HELD_STREAM])
def test_a_drain_finishes_what_runs_and_accepts_nothing_new(rig: Rig, body: bytes) -> None:
    with rig.wire() as idle, rig.wire() as begun, rig.wire() as busy:
        idle.send(GOOD)
        idle.answer()
        begun.send(GOOD[:30])
        busy.send(post(body))
        rig.wait_until(lambda: len(rig.engine.running) == 1, "the engine works")
        stop = stopping(rig)
        assert idle.rest() == []
        assert begun.rest() == []
        assert rig.ask(rig.server.app.why_not_ready) == "the gateway is shutting down"
        assert not stop.done()
        rig.ask(rig.engine.release)
        (answer,) = busy.rest()
        assert answer.whole
        assert answer.status == 200
        assert b"error" not in answer.body
        stop.result(PATIENCE_S)
    assert rig.log[-1]["outcome"] == "ok"


def test_while_draining_a_probe_says_so_and_the_connection_ends(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(post(HELD) + b"GET /readyz HTTP/1.1\r\nhost: edge\r\n\r\n")
        rig.wait_until(lambda: len(rig.engine.running) == 1, "the engine works")
        stop = stopping(rig)
        rig.ask(rig.engine.release)
        first, probe = wire.rest()
        stop.result(PATIENCE_S)
    assert first.status == 200
    assert probe.status == 503
    assert probe.header("connection") == "close"
    assert probe.json == {"status": "not ready", "reason": "the gateway is shutting down"}


def test_a_stream_longer_than_the_drain_ends_with_an_error_event(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(post(HELD_STREAM))
        wire.until(b"word0")
        stop = stopping(rig, 0.2)
        text = wire.until(b"0\r\n\r\n").decode()
        assert wire.rest() == []
        stop.result(PATIENCE_S)
    error = json.loads(text.partition('data: {"error"')[2].join(['{"error"', ""]).partition("\n")[0])["error"]
    assert error["code"] == "shutting_down"
    assert text.count("[DONE]") == 1
    rig.wait_until(lambda: not rig.engine.running, "the engine has stopped")


def test_an_answer_longer_than_the_drain_is_refused(rig: Rig) -> None:
    with rig.wire() as waiting, rig.wire() as reading:
        waiting.send(post(HELD))
        rig.wait_until(lambda: len(rig.engine.running) == 1, "the engine works")
        reading.send(GOOD[:-5])
        rig.wait_until(lambda: rig.in_flight() > 3, "both are in flight")
        stop = stopping(rig, 0.2)
        for wire in (waiting, reading):
            (answer,) = wire.rest()
            assert answer.status == 503
            assert answer.json["error"]["code"] == "shutting_down"
            assert answer.header("retry-after")
            assert answer.header("x-request-id")
        stop.result(PATIENCE_S)


def test_a_client_that_does_not_read_does_not_hold_up_the_stop(rig: Rig) -> None:
    with rig.wire(receive_bytes=4096) as wire:
        wire.send(b"GET /openapi.json HTTP/1.1\r\nhost: edge\r\n\r\n" * 60)
        rig.wait_until(lambda: rig.connections() == 1, "it is connected")
        asyncio.run_coroutine_threadsafe(rig.server.stop(0.1), rig.loop).result(PATIENCE_S)


def test_close_now_ends_a_stop_that_waits(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(post(HELD_STREAM))
        wire.until(b"word0")
        stop = stopping(rig)
        rig.ask(rig.server.close_now)
        stop.result(PATIENCE_S)
        assert b"shutting_down" in wire.until(b"0\r\n\r\n")


async def test_nothing_is_left_of_a_server() -> None:
    async with engine() as running:
        tasks, open_files = len(asyncio.all_tasks()), descriptors()
        for drain_s in (5.0, 0.0):
            server = GatewayServer(edge_settings(running.port), write_log=lambda _: None)
            await server.start()
            async with httpx.AsyncClient() as client:
                answer = await client.post(f"{server.url}/v1/chat/completions", content=STREAM)
                assert answer.status_code == 200
                await server.stop(drain_s)
                await server.stop(drain_s)
                await server.wait_closed()
            assert len(asyncio.all_tasks()) == tasks
            await until(lambda: descriptors() <= open_files)
            with pytest.raises(ConnectionRefusedError):
                Wire(server.port)


# -- connections ---------------------------------------------------------------------------------------------------


def test_two_thousand_idle_connections_do_not_hurt() -> None:
    before = descriptors()
    with rig_of(timeouts={"keep_alive_s": PATIENCE_S}) as rig:
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(rig.wire()) for _ in range(2000)]
            for wire in wires[:500]:
                wire.send(GOOD)
            assert all(wire.answer().status == 200 for wire in wires[:500])
            rig.wait_until(lambda: rig.connections() == 2000, "all are connected")
            rig.check_healthy()
            rig.run(rig.server.stop(0.1))
            assert all(wire.rest() == [] for wire in wires)
        rig.check_accounts()
    assert descriptors() <= before


# -- other servers -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def engine() -> AsyncIterator[EdgeEngine]:
    running = EdgeEngine()
    await running.start()
    yield running
    await running.stop()
    assert running.violations == []


async def until(true: Callable[[], bool]) -> None:
    for _ in range(4000):
        if true():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it has not come about in 20 s")


async def ask_everything(client: httpx.AsyncClient) -> None:
    whole = await client.post("/v1/chat/completions", content=BODY)
    assert whole.json()["body_bytes"] == len(BODY)
    stream = await client.post("/v1/chat/completions", content=STREAM)
    assert stream.text.count("data: ") == 4
    wrong = await client.post("/v1/chat/completions", content=b"{")
    assert wrong.json()["error"]["code"] == "invalid_json"
    nowhere = await client.get("/nope")
    assert nowhere.status_code == 404
    probe = await client.get("/readyz", headers={"x-request-id": "mine"})
    assert probe.headers["x-request-id"] == "mine"
    assert len({answer.headers["x-request-id"] for answer in (whole, stream, wrong, nowhere, probe)}) == 5


async def test_the_app_without_lifespan_and_without_a_server() -> None:
    async with engine() as running:
        app = GatewayApp(edge_settings(running.port), write_log=lambda _: None)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            await ask_everything(client)
        await app.stop()


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("lifespan", ["on", "off"])
async def test_the_app_under_another_server(http: Any, lifespan: Any) -> None:
    async with engine() as running:
        app = GatewayApp(edge_settings(running.port), write_log=lambda _: None)
        listener = socket.create_server(("127.0.0.1", 0))
        server = _Quiet(uvicorn.Config(app, http=http, ws="none", lifespan=lifespan, log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            await ask_everything(client)
        server.should_exit = True
        await serving
        await app.stop()


def test_it_also_runs_on_the_standard_event_loop() -> None:
    rig = Rig(asyncio.new_event_loop, {})
    rig.start()
    try:
        with rig.wire() as wire:
            wire.send(GOOD + post(STREAM) + GOOD + b"garbage")
            assert [answer.status for answer in wire.rest()] == [200, 200, 200]
        with rig.wire() as wire:
            wire.send(post(HELD_STREAM) + GOOD)
            rig.wait_until(lambda: len(rig.engine.running) == 1, "the engine works")
        rig.check_healthy()
        with rig.wire() as wire:
            wire.send(post(HELD_STREAM))
            wire.until(b"word0")
            stop = stopping(rig, 0.1)
            assert b"shutting_down" in wire.until(b"0\r\n\r\n")
            stop.result(PATIENCE_S)
    finally:
        rig.stop()
    assert rig.complaints.texts == []
    assert rig.surprises == []
