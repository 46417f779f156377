"""Connections to one endpoint: none more than allowed, none lost count of, whoever gives up when."""

import asyncio

import psutil
import pytest

from gateway.upstream.connection import Connection
from gateway.upstream.pool import Pool
from serving.errors import EngineTimeout, EngineUnreachable, Overloaded
from tests.gateway.engine import Engine, refusing, unconnectable
from tests.gateway.running import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


def pool_to(port: int | str, *, limit: int = 2, waiting: int = 2, connect_s: float = 10.0) -> Pool:
    number = int(port.rpartition(":")[2]) if isinstance(port, str) else port
    return Pool("127.0.0.1", number, limit=limit, waiting=waiting, connect_s=connect_s, idle_s=10.0)


async def several(pool: Pool, count: int) -> list[Connection]:
    return list(await asyncio.gather(*(pool.connect() for _ in range(count))))


async def test_the_last_one_released_is_taken_first_and_the_oldest_expires(engine: Engine) -> None:
    pool = pool_to(engine.port)
    first, second = await several(pool, 2)
    pool.release(first)
    pool.release(second)
    assert pool.take_idle() is second
    assert await pool.connect() is first
    assert pool.take_idle() is None
    pool.release(first)
    pool.release(second)
    loop = asyncio.get_running_loop()
    pool.expire(loop.time() + 1)
    assert pool.open_connections == 2
    pool.expire(loop.time() + 11)
    await eventually(lambda: pool.open_connections == 0)


async def test_one_that_went_while_idle_is_passed_over(engine: Engine) -> None:
    pool = pool_to(engine.port)
    held = await pool.connect()
    pool.release(held)
    held.transport.abort()
    assert pool.take_idle() is None
    assert (await pool.connect()) is not held
    pool.release(held)
    await eventually(lambda: pool.open_connections == 1)


async def test_those_who_wait_are_served_in_turn(engine: Engine) -> None:
    pool = pool_to(engine.port, limit=1)
    held = await pool.connect()
    first, second = asyncio.create_task(pool.connect()), asyncio.create_task(pool.connect())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="2 requests wait for one already"):
        await pool.connect()
    pool.release(held)
    assert await first is held
    assert not second.done()
    held.abort()
    assert await second is not held
    assert pool.open_connections == 1


async def test_a_surely_new_connection_is_never_one_handed_over(engine: Engine) -> None:
    pool = pool_to(engine.port, limit=1)
    held = await pool.connect()
    fresh = asyncio.create_task(pool.connect(new=True))
    await asyncio.sleep(0)
    pool.release(held)
    assert await fresh is not held
    assert held.closed
    pool.release(await fresh)
    assert await pool.connect(new=True) is not await fresh  # also where all that there is stands idle
    assert pool.open_connections == 1


async def test_why_there_is_no_connection(engine: Engine) -> None:
    with refusing() as url:
        pool = pool_to(url)
        with pytest.raises(EngineUnreachable, match="cannot be reached"):
            await pool.connect()
        assert pool.open_connections == 0
    with unconnectable() as url:
        pool = pool_to(url, connect_s=0.05)
        with pytest.raises(EngineTimeout, match=r"did not accept a connection within 0\.05 s"):
            await pool.connect()
        assert pool.open_connections == 0
    pool = pool_to(engine.port, limit=1, connect_s=0.05)
    await pool.connect()
    with pytest.raises(Overloaded, match=r"busy for 0\.05 s"):
        await pool.connect()
    assert pool.open_connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_giving_up_at_any_moment_loses_no_count_and_no_descriptor(engine: Engine, host: str) -> None:
    pool = Pool(host, engine.port, limit=4, waiting=100, connect_s=10.0, idle_s=10.0)
    (await pool.connect()).close()
    await eventually(lambda: not engine.open and pool.open_connections == 0)
    before = psutil.Process().num_fds()
    for steps in range(60):
        tasks = [asyncio.create_task(pool.connect()) for _ in range(8)]
        for _ in range(steps % 12):
            await asyncio.sleep(0 if steps % 2 else 0.0002)
        for task in tasks:
            task.cancel()
        for made in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(made, Connection | asyncio.CancelledError)
            if isinstance(made, Connection):
                made.abort()
        await eventually(lambda: pool.open_connections == 0)
    await eventually(lambda: not engine.open)
    assert psutil.Process().num_fds() <= before
    assert all(not c.closed for c in await several(pool, 4))


async def test_an_endpoint_that_closes_at_once_costs_no_place() -> None:
    class Rude(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    server = await asyncio.get_running_loop().create_server(Rude, "127.0.0.1", 0)
    pool = pool_to(server.sockets[0].getsockname()[1], limit=2)
    for _ in range(20):
        try:
            await pool.connect()
        except EngineUnreachable:
            continue
        await asyncio.sleep(0)
    await eventually(lambda: pool.open_connections == 0)
    server.close()


async def test_a_closed_pool_closes_what_comes_back(engine: Engine) -> None:
    pool = pool_to(engine.port)
    idle, busy = await several(pool, 2)
    pool.release(idle)
    pool.close()
    assert idle.closed
    pool.release(busy)
    await eventually(lambda: pool.open_connections == 0)
