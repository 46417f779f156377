"""Whoever ends an engine asks first whether requests are under way there, also after it has left the routes."""

import pytest

from serving.routes import RouteTable
from tests.gateway.chat import ask
from tests.gateway.conftest import Start
from tests.gateway.engine import Engine, silent
from tests.gateway.running import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_engine_that_left_the_routes_is_busy_until_its_last_request_ends(start: Start, engine: Engine) -> None:
    engine.script = silent
    gateway = await start(engine)
    assert not gateway.app.busy(engine.url)
    client = await gateway.client()
    client.send(ask())
    await engine.exchange()
    assert gateway.app.busy(engine.url)
    gateway.app.set_routes(RouteTable())
    assert gateway.app.busy(engine.url)
    client.hang_up()
    await eventually(lambda: not gateway.app.busy(engine.url))


async def test_an_engine_is_busy_at_its_own_url_only(start: Start, engine: Engine, other: Engine) -> None:
    engine.script = silent
    gateway = await start(engine)
    client = await gateway.client()
    client.send(ask())
    await engine.exchange()
    assert gateway.app.busy(engine.url)
    assert not gateway.app.busy(other.url)
