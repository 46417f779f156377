"""What the tests of a gateway at work share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
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


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """A scripted engine."""
    async with Engine() as running:
        yield running


@pytest.fixture
async def other() -> AsyncIterator[Engine]:
    """Another."""
    async with Engine() as running:
        yield running


@pytest.fixture
async def start(mode: Mode) -> AsyncIterator[Start]:
    """Starts a gateway in front of engines."""
    async with contextlib.AsyncExitStack() as stack:

        async def run(*engines: Engine | str, routes: RouteTable | None = None, **settings: Any) -> Gateway:
            return await stack.enter_async_context(gateway(mode, *engines, routes=routes, **settings))

        yield run
