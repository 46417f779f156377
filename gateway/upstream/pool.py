"""Keep-alive connections to one endpoint, at most so many. Adapter."""

import asyncio
import contextlib
from collections import deque

from gateway.upstream.connection import Connection
from gateway.upstream.dial import Dialler
from serving.errors import EngineTimeout, EngineUnreachable, Overloaded


class Pool:
    """Connections to `host:port`. The most recently used idle one is taken first, so that spare ones age out.

    Args:
        host, port: the endpoint's address.
        limit: connections open at once, at most.
        waiting: requests that may wait for one at the limit, at most.
        connect_s: how long connecting may take, in seconds; at the limit, as long again for a free place.
        idle_s: an idle connection older than this is closed rather than used.
    """

    def __init__(self, host: str, port: int, *, limit: int, waiting: int, connect_s: float, idle_s: float) -> None:
        self._host = host
        self._port = port
        self._dialler = Dialler(host, port)
        self._limit = limit
        self._max_waiting = waiting
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._idle: deque[tuple[float, Connection]] = deque()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._open = 0
        self._made: set[Connection] = set()
        self._closing = False
        self._loop = asyncio.get_running_loop()

    @property
    def open_connections(self) -> int:
        """Connections open or being opened."""
        return self._open

    def take_idle(self) -> Connection | None:
        """An idle connection, at once, or None."""
        idle = self._idle
        while idle:
            _, connection = idle.pop()
            if not connection.closed and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, *, new: bool = False) -> Connection:
        """A connection: an idle one, or a new one (`new`: surely), waiting for a free place at the limit.

        Raises:
            EngineUnreachable: refused, or no route.
            EngineTimeout: not connected within `connect_s`.
            Overloaded: at the limit, and too many wait already, or for `connect_s`.
        """
        if not new and (idle := self.take_idle()) is not None:
            return idle
        if new and self._open >= self._limit and self._idle:
            self._idle.popleft()[1].close()  # its place is free in a moment
        while (handed := await self._place()) is not None:
            if not new:
                return handed
            handed.close()
        try:
            async with asyncio.timeout(self._connect_s):
                made = await self._dialler.open(lambda: Connection(self._freed, self._gone))
        except TimeoutError:
            self._give_place()
            raise EngineTimeout(
                f"The engine at {self._host}:{self._port} did not accept a connection within {self._connect_s:g} s."
            ) from None
        except OSError as error:
            self._give_place()
            raise EngineUnreachable(
                f"The engine at {self._host}:{self._port} cannot be reached: {error.strerror or error}."
            ) from None
        except BaseException:
            self._give_place()
            raise
        if made.closed:
            self._give_place()
            raise EngineUnreachable(f"The engine at {self._host}:{self._port} closed the connection at once.")
        self._made.add(made)
        return made

    def release(self, connection: Connection) -> None:
        """Give an unused connection back. From now on it may be stale, as any that has waited."""
        if not connection.closed:
            connection.served += 1
            self._freed(connection)

    def expire(self, now: float) -> None:
        """Close what has been idle for longer than `idle_s` at `now` (the loop's clock)."""
        while self._idle and now - self._idle[0][0] > self._idle_s:
            self._idle.popleft()[1].close()

    def close(self) -> None:
        """Close idle connections now and the others as they come back."""
        self._closing = True
        while self._idle:
            self._idle.pop()[1].close()

    async def _place(self) -> Connection | None:
        """Wait for a place; or be handed a connection that came free."""
        if self._open < self._limit and not self._waiting:
            self._open += 1
            return None
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(
                f"All {self._limit} connections to the engine at {self._host}:{self._port} are busy, and "
                f"{self._max_waiting} requests wait for one already."
            )
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._connect_s):
                return await waiter
        except TimeoutError:
            if waiter.done() and not waiter.cancelled():
                return waiter.result()  # it came in the same instant
            self._leave(waiter)
            raise Overloaded(
                f"All {self._limit} connections to the engine at {self._host}:{self._port} have been busy for "
                f"{self._connect_s:g} s."
            ) from None
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                handed = waiter.result()
                self._give_place() if handed is None else self._freed(handed)
            else:
                self._leave(waiter)
            raise

    def _leave(self, waiter: asyncio.Future[Connection | None]) -> None:
        with contextlib.suppress(ValueError):  # passed over already
            self._waiting.remove(waiter)

    def _give_place(self) -> None:
        waiter = self._next_waiter()
        if waiter is None:
            self._open -= 1
        else:
            waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _freed(self, connection: Connection) -> None:
        """The connection has served a request and can serve another."""
        if self._closing:
            connection.close()
        elif self._waiting and (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self._idle.append((self._loop.time(), connection))

    def _gone(self, connection: Connection) -> None:
        # One that goes while it is being made has its place given back by whoever makes it.
        if connection in self._made:
            self._made.discard(connection)
            self._give_place()
