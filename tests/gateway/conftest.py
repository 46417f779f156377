"""What the tests of a gateway at work share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from serving.routes import RouteTable
from tests.gateway.engine import Engine
from tests.gateway.running import Gateway, Mode, gateway

Start = Callable[..., Awaitable[Gateway]]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(params=["splice", "asgi"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """How the gateway is served: with its own way to the socket, or as any ASGI application."""
    chosen: Mode = request.param
    return chosen


@pytest_asyncio.fixture(loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    """A scripted engine."""
    async with Engine() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def other() -> AsyncIterator[Engine]:
    """Another."""
    async with Engine() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def leaving() -> AsyncIterator[set[asyncio.Task[None]]]:
    """What is still stopping after its test: uvicorn takes 0.2 s for it, and the next test need not wait."""
    tasks: set[asyncio.Task[None]] = set()
    yield tasks
    await asyncio.gather(*tasks)


@pytest_asyncio.fixture(loop_scope="module")
async def start(mode: Mode, leaving: set[asyncio.Task[None]]) -> AsyncIterator[Start]:
    """Starts a gateway in front of engines."""
    started: list[tuple[Gateway, contextlib.AsyncExitStack]] = []

    async def run(*engines: Engine | str, routes: RouteTable | None = None, **settings: Any) -> Gateway:
        stack = contextlib.AsyncExitStack()
        started.append((await stack.enter_async_context(gateway(mode, *engines, routes=routes, **settings)), stack))
        return started[-1][0]

    yield run
    for running, stack in started:
        await running.close_clients()
        leaving.add(asyncio.create_task(stack.aclose()))
