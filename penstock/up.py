"""`penstock up`: the gateway and the engines behind it, in one process that leaves nothing behind."""

import asyncio
import contextlib
import errno
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoscaler.local.cluster import LocalCluster, Means
from autoscaler.local.control import ControlServer
from autoscaler.local.files import ServiceFiles
from autoscaler.local.host import this_host
from autoscaler.local.log_file import prune
from autoscaler.local.ports import FreePorts
from autoscaler.local.replica import Surroundings
from autoscaler.local.state import StateDir, StateError
from autoscaler.local.status import Event
from engines.catalog import ENGINES
from gateway.config import GatewaySettings
from gateway.config_text import SettingsError
from gateway.keys import KeyFileError
from gateway.server import GatewayServer
from penstock.ask import Asker, welcome
from penstock.bundled import runtimes
from penstock.display import Display, LastingConsole, display_for
from penstock.failure import Failure
from penstock.logs import BoundedFile, log_to
from serving.routes import RouteTable
from serving.validation import SpecError

_log = logging.getLogger(__name__)
LOOK_S = 0.1
INTERRUPTED = 130
KEPT_LOGS = 100


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `penstock up` was asked for. `api_key` is what `ask` sends where keys are on."""

    files: tuple[Path, ...]
    settings: GatewaySettings
    state: Path
    ask: str | None = None
    api_key: str | None = None

    @property
    def keyed(self) -> bool:
        """Whether the gateway wants a key."""
        return self.settings.keys_file is not None


def up(options: UpOptions) -> int:
    """Run until a signal; the exit status.

    Raises:
        Failure: it could not begin. Nothing is left running.
    """
    try:
        with StateDir(options.state) as state:
            prune(state.logs, KEPT_LOGS)
            log_to(state.path / "penstock.log", options.settings.log.level)
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                return runner.run(_Up(options, state).run())
    except (SpecError, StateError, SettingsError, KeyFileError) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        hint = "; give another with --port" if error.errno == errno.EADDRINUSE else ""
        where = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{where}{error.strerror or error}{hint}") from error


class _Up:
    """The parts, put together."""

    def __init__(self, options: UpOptions, state: StateDir) -> None:
        self._options = options
        self._state = state
        self._display: Display = display_for(LastingConsole(stderr=True, highlight=False))
        changed = asyncio.Event()
        self._access = BoundedFile(state.path / "access.log")
        self._gateway = GatewayServer(options.settings, RouteTable(), write_log=self._access.write)
        around = Surroundings(say=self._say, changed=changed.set, ports=FreePorts(), busy=self._gateway.busy)
        means = Means(runtimes(), ENGINES, this_host(), state.logs)
        self._cluster = LocalCluster(means, around, changed, self._gateway.set_routes)
        self._files = ServiceFiles(options.files, self._cluster, self._say)
        self._signals: asyncio.Queue[int] = asyncio.Queue()
        self._tasks: list[asyncio.Task[Any]] = []

    async def run(self) -> int:
        """Start, serve until a signal, stop. 0 after a clean end, 130 when a second signal cut it short."""
        self._files.load()
        with self._hear_signals():
            await self._gateway.start()
            try:
                await self._serve()
                return await self._stop()
            finally:
                await self._end_at_once()

    async def _serve(self) -> None:
        """Everything until the first signal, or until a part fails."""
        control = ControlServer(self._cluster, self._gateway.url)
        await control.start(self._state.new_socket())
        parts: list[Coroutine[Any, Any, Any]] = [
            self._cluster.run(),
            self._files.watch(),
            self._gateway_lasts(),
            self._begin(),
        ]
        self._tasks = [asyncio.create_task(part) for part in parts]
        heard = asyncio.create_task(self._signals.get())
        try:
            waiting: set[asyncio.Task[Any]] = {heard, *self._tasks}
            while not heard.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {heard}:
                    task.result()  # a part that failed ends the whole, with its error
        finally:
            heard.cancel()
            self._settle()
            await control.stop()

    async def _gateway_lasts(self) -> None:
        await self._gateway.wait_closed()
        raise RuntimeError("the gateway has ended by itself")

    async def _begin(self) -> None:
        """Show progress until all is ready, then say how to use it, and ask what was to be asked."""
        while not self._all_ready():
            with contextlib.suppress(OSError):
                self._display.progress(self._cluster.statuses())
            await asyncio.sleep(LOOK_S)  # the display moves at this pace anyway
        self._settle()
        models = [status.models[0] for status in self._cluster.statuses() if status.wanted]
        with contextlib.suppress(OSError):  # nobody reads it, and the service goes on
            print(welcome(self._gateway.url, models, self._options), flush=True)  # noqa: T201
        if self._options.ask and models:
            asker = Asker(self._gateway.url, self._options.api_key, models[0])
            threading.Thread(target=asker.ask, args=(self._options.ask,), daemon=True).start()

    def _all_ready(self) -> bool:
        return all(status.phase in ("ready", "stopped") for status in self._cluster.statuses())

    async def _stop(self) -> int:
        """Finish what runs, then end the engines; a second signal cuts both short."""
        self._say(Event("penstock", "stops after running requests; Ctrl-C again stops at once"))
        for task in self._tasks:
            task.cancel()
        draining = asyncio.create_task(self._drain())
        again = asyncio.create_task(self._signals.get())
        await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if draining.done():
            await draining
            return 0
        self._gateway.close_now()
        await self._cluster.kill()
        await draining
        return INTERRUPTED

    async def _drain(self) -> None:
        await self._gateway.stop()
        await self._cluster.close()

    async def _end_at_once(self) -> None:
        """Whatever happened before: no task, no process, no port is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._gateway.close_now()
        await self._cluster.kill()
        await self._gateway.stop(0)
        self._access.close()

    def _settle(self) -> None:
        with contextlib.suppress(OSError):
            self._display.settled()

    def _say(self, event: Event) -> None:
        _log.info("%s: %s", event.service, event.text)
        with contextlib.suppress(OSError):  # the terminal is gone; that is no reason to cut answers short
            self._display.tell(event)

    @contextlib.contextmanager
    def _hear_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; it is not on Windows."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
