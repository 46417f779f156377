"""Wiring: the gateway under uvicorn, as a process of its own or inside another's event loop."""

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from gateway.app import GatewayApp
from gateway.call import HOT_PATHS
from gateway.config import GatewaySettings
from gateway.protocol import SpliceProtocol
from serving.routes import RouteTable

BACKLOG = 4096
TEND_S = 1.0
FLUSH_CHECK_S = 0.01
FLUSH_CHECKS = 100
GC_ALLOCATIONS = 10_000


class _Uvicorn(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would take the process's signals."""
        yield


class GatewayServer:
    """A gateway that listens.

    Args:
        settings: checked settings.
        routes: what to serve; None for the settings' own models.
        write_log: see GatewayApp.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        routes: RouteTable | None = None,
        *,
        write_log: Callable[[bytes], Any] | None = None,
    ) -> None:
        self.settings = settings
        self.app = GatewayApp(settings, routes, write_log=write_log)
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self.port = settings.port

    @property
    def url(self) -> str:
        """Where it is reached; with the port it got, where 0 was asked for."""
        host = self.settings.host
        shown = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else host  # noqa: S104 - shown only
        return f"http://{f'[{shown}]' if ':' in shown and not shown.startswith('[') else shown}:{self.port}"

    def set_routes(self, table: RouteTable) -> None:
        """Serve this table from now on."""
        self.app.set_routes(table)

    def busy(self, url: str) -> bool:
        """Whether requests are under way at an engine of this URL, also after it has left the routes."""
        return self.app.busy(url)

    async def start(self) -> None:
        """Listen; returns when requests are served.

        Raises:
            OSError: the address cannot be had; says which.
        """
        listener = self._bind()
        self.port = listener.getsockname()[1]
        timeouts = self.settings.timeouts
        bound = {
            "head_bytes": self.settings.limits.header_bytes,
            "known_paths": {path.encode(): path for path in HOT_PATHS},
            "new_request_id": staticmethod(self.app.new_request_id),
        }
        protocol = type("BoundProtocol", (SpliceProtocol,), bound)
        config = uvicorn.Config(
            self.app,
            http=protocol,
            ws="none",
            lifespan="off",  # it would not be ended by a forced stop
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            # uvicorn hands it to asyncio, which takes fractions of a second.
            timeout_keep_alive=cast("int", timeouts.keep_alive_s),
        )
        self._hurry.clear()
        self._server = server = _Uvicorn(config)
        self.app.draining = False
        self.app.start()
        self._task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            if self._task.done():
                await self.app.stop()
                await self._task
                raise OSError(f"the gateway did not start on {self.settings.host}:{self.port}")
            await asyncio.sleep(0.005)
        self._watch = asyncio.create_task(self._tend(server))

    async def wait_closed(self) -> None:
        """Until it has stopped."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self, drain_s: float | None = None) -> None:
        """Stop listening, let running requests finish for up to `drain_s` seconds (settings' own if None), close."""
        server, task = self._server, self._task
        if server is None or task is None:
            return
        self.app.draining = True
        server.should_exit = True
        hurry = asyncio.create_task(self._hurry.wait())
        allowed_s = self.settings.timeouts.drain_s if drain_s is None else drain_s
        await asyncio.wait({task, hurry}, timeout=allowed_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        self.close_now()
        await self._end(server)
        await task
        await self._end(server)  # who connected before the listener was closed
        await self.app.stop()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self._server = self._task = self._watch = None

    def close_now(self) -> None:
        """Do not wait for running requests any longer."""
        self._hurry.set()
        if self._server is not None:
            self._server.should_exit = self._server.force_exit = True

    async def serve_until_signal(self) -> None:
        """Listen; stop on SIGINT or SIGTERM, after the requests that run; on a second one, at once.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()

        def on_signal() -> None:
            if asked.is_set():
                self.close_now()
            asked.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        await self.start()
        logging.getLogger(__name__).info("serving on %s", self.url)
        spare_the_collector()
        await asked.wait()
        await self.stop()

    def _bind(self) -> socket.socket:
        host, port = self.settings.host, self.settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(BACKLOG)  # here, because two may bind to one port, and only one may listen
        except OSError as error:
            listener.close()
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
        except UnicodeError:
            listener.close()
            raise OSError(errno.EINVAL, f"cannot listen on {host}:{port}: this is no host name") from None
        return listener

    async def _tend(self, server: _Uvicorn) -> None:
        """End connections that would otherwise stay for ever."""
        loop = asyncio.get_running_loop()
        timeouts = self.settings.timeouts
        while True:
            await asyncio.sleep(TEND_S)
            now = loop.time()
            for connection in tuple(server.server_state.connections):
                if isinstance(connection, SpliceProtocol):
                    connection.tend(now, timeouts.body_s, timeouts.idle_s)

    async def _end(self, server: _Uvicorn) -> None:
        """End requests, each with an error that says so. What has been written goes out, for up to a second."""
        state = server.server_state
        for _ in range(FLUSH_CHECKS):
            if not _abort_unread(state):
                break
            await asyncio.sleep(FLUSH_CHECK_S)
        for task in tuple(state.tasks):
            task.cancel()
        await _until_empty(state.tasks)
        for connection in tuple(state.connections):
            connection.transport.close()
        await _until_empty(state.connections)
        for connection in tuple(state.connections):
            connection.transport.abort()
        await _until_empty(state.tasks)


def _abort_unread(state: ServerState) -> bool:
    """Drop clients that do not read: they would not hear of the end, and a task that waits for them would not end."""
    unread = [c for c in state.connections if isinstance(c, SpliceProtocol) and c.flow.write_paused]
    for connection in unread:
        connection.transport.abort()
    return bool(unread)


async def _until_empty(things: set[Any]) -> None:
    """At most a second."""
    for _ in range(FLUSH_CHECKS):
        if not things:
            return
        await asyncio.sleep(FLUSH_CHECK_S)


def run(settings: GatewaySettings) -> None:
    """Run a gateway until SIGINT or SIGTERM; a second signal does not wait for running requests.

    Raises:
        OSError: the address cannot be had.
    """
    logging.basicConfig(level=settings.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings))


async def _serve(settings: GatewaySettings) -> None:
    await GatewayServer(settings).serve_until_signal()


def spare_the_collector() -> None:
    """Leave what has been made so far out of garbage collection, and collect less often.

    A request makes no reference cycles, so the collector finds nothing, yet would walk the imported modules each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
