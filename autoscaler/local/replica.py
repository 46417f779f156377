"""One replica: an engine process that is started, asked after, started again when it ends, and drained."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from autoscaler.local.backoff import Backoff
from autoscaler.local.log_file import begin, tail
from autoscaler.local.ports import FreePorts
from autoscaler.local.probe import answers
from autoscaler.local.process import EngineProcess
from autoscaler.local.status import Event, Level, Phase, ReplicaStatus
from engines.launch import Launch

SHOWN_LINES = 8
LEAVING = frozenset({Phase.DRAINING, Phase.ENDING, Phase.GONE})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a replica needs of the cluster around it.

    `say` takes events, `changed` is called after every change of phase, `busy` says whether requests are in
    flight to a URL.
    """

    say: Callable[[Event], None]
    changed: Callable[[], None]
    ports: FreePorts
    busy: Callable[[str], bool] = lambda _: False
    backoff: Backoff = field(default_factory=Backoff)
    look_s: float = 0.1
    """How often a starting engine is asked, and an ending one looked at."""


class Replica:
    """A replica of one revision. `run` is its life; `drain` or `kill` ends it."""

    def __init__(self, service: str, name: str, launch: Launch, log: Path, around: Surroundings) -> None:
        self.service = service
        self.name = name
        self._launch = launch
        self._log = log
        self._around = around
        self.phase = Phase.STARTING
        self._since = time.monotonic()
        self._ending = asyncio.Event()
        self._at_once = False
        self._process: EngineProcess | None = None
        self._port = 0
        self._crashes = 0
        self._restarts = 0
        self._ready_s = 0.0
        self._log_start = 0

    @property
    def url(self) -> str:
        """Where the engine answers; the port changes with every start."""
        return f"http://127.0.0.1:{self._port}"

    def status(self) -> ReplicaStatus:
        """This replica, for people."""
        return ReplicaStatus(
            name=self.name,
            phase=self.phase,
            pid=self._process.pid if self._process else 0,
            port=self._port if self._process else 0,
            restarts=self._restarts,
            since_s=round(time.monotonic() - self._since, 1),
            log=str(self._log),
        )

    async def run(self) -> None:
        """Start the engine, and again after every end, until the replica is drained. Cancelling kills it."""
        try:
            while not self._ending.is_set():
                cause = await self._one_life()
                if self.phase in LEAVING or self._ending.is_set():
                    return
                await self._rest_after(cause)
        finally:
            self._enter(Phase.GONE)

    async def drain(self) -> None:
        """Take nothing new, finish what is in flight, end the engine. Returns when it is asked to end."""
        if self.phase in LEAVING:
            return
        serving = self._process is not None and self.phase in (Phase.READY, Phase.UNREADY)
        self._enter(Phase.DRAINING)
        if serving:
            await self._until_idle()
            self._enter(Phase.ENDING)
            await asyncio.sleep(self._around.look_s)  # gateways close their idle connections meanwhile
        self._ending.set()
        if self._process is not None:
            self._process.drain()

    async def _until_idle(self) -> None:
        """Wait while requests are in flight here; at least until routes are out, at most the drain time."""
        give_up = time.monotonic() + self._launch.drain_s
        while True:
            await asyncio.sleep(self._around.look_s)
            if not self._around.busy(self.url) or time.monotonic() >= give_up:
                return

    def kill(self) -> None:
        """End the engine at once."""
        self._at_once = True
        self._ending.set()
        if self._process is not None:
            self._process.kill()

    async def _one_life(self) -> str:
        """From start to end of one process. Why it ended."""
        self._ready_s = 0.0
        started = time.monotonic()
        try:
            process = await self._start()
        except OSError as error:
            return f"could not be started: {error.strerror}"
        exited = asyncio.create_task(process.wait())
        watch = asyncio.create_task(self._watch())
        try:
            if self._at_once:  # asked to end while it was being started
                process.kill()
            elif self._ending.is_set():
                process.drain()
            await asyncio.wait({exited, watch}, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                return f"{_ended(exited.result())} after {time.monotonic() - started:.1f} s"
            return watch.result()
        finally:
            watch.cancel()
            if not exited.done():
                process.kill()
                await asyncio.shield(exited)
            self._process = None

    async def _start(self) -> EngineProcess:
        self._port = self._around.ports.take()
        self._enter(Phase.STARTING)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._log_start = begin(self._log, f"{stamp} {self.name} starts on port {self._port}")
        self._process = await EngineProcess.start(self._launch.at(self._port), self._log)
        return self._process

    async def _watch(self) -> str:
        """Ask after the engine for as long as it lives; return why it should be ended, if it should."""
        started = time.monotonic()
        unready, missed, asked_live = 0, 0, started
        while True:
            ready = await answers(self._port, self._launch.ready)
            now = time.monotonic()
            unready = 0 if ready else unready + 1
            if self.phase not in LEAVING and (ready or unready >= self._launch.ready.failures):
                self._note_readiness(ready, now)
            if ready:
                missed, asked_live = 0, now
            elif self.phase is Phase.STARTING and now - started > self._launch.startup_s:
                return f"was not ready within {self._launch.startup_s:g} s and was ended"
            elif self.phase is Phase.UNREADY and now - asked_live >= self._launch.live.period_s:
                missed = 0 if await answers(self._port, self._launch.live) else missed + 1
                asked_live = time.monotonic()
                if missed >= self._launch.live.failures:
                    return "stopped answering and was ended"
            await asyncio.sleep(self._launch.ready.period_s if ready else self._around.look_s)

    def _note_readiness(self, ready: bool, now: float) -> None:
        if ready and self.phase is not Phase.READY:
            waited = now - self._since
            word = "is ready" if self.phase is Phase.STARTING else "is ready again"
            self._enter(Phase.READY)
            self._around.say(Event(self.service, f"{self.name} {word} after {waited:.1f} s"))
        elif not ready and self.phase is Phase.READY:
            self._ready_s += now - self._since
            self._enter(Phase.UNREADY)
            self._around.say(Event(self.service, f"{self.name} does not say that it is ready", Level.WARNING))

    async def _rest_after(self, cause: str) -> None:
        """Say what happened and wait until the next start, or until the replica is drained."""
        if self.phase is Phase.READY:
            self._ready_s += time.monotonic() - self._since
        backoff = self._around.backoff
        self._crashes = backoff.crashes(self._crashes, self._ready_s)
        self._restarts += 1
        delay_s = backoff.delay_s(self._crashes)
        self._enter(Phase.CRASHED)
        looping = backoff.is_loop(self._crashes)
        row = f" It has now failed {self._crashes} times in a row (crash loop)." if looping else ""
        self._around.say(
            Event(
                self.service,
                f"{self.name} {cause}; it is started again in {delay_s:g} s.{row} Log: {self._log}",
                Level.ERROR if looping else Level.WARNING,
                tuple(tail(self._log, SHOWN_LINES, self._log_start)),
            )
        )
        try:
            await asyncio.wait_for(self._ending.wait(), delay_s)
        except TimeoutError:
            return

    def _enter(self, phase: Phase) -> None:
        if self.phase not in LEAVING or phase in LEAVING:
            self.phase = phase
            self._since = time.monotonic()
            self._around.changed()


def _ended(status: int) -> str:
    """Pure. An exit status in words."""
    if status == 127:
        return "could not be run"
    if status > 128:
        return f"was ended by signal {status - 128}"
    return f"exited with status {status}"
