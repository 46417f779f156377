"""One gateway in front of a fresh stand-in engine, measured once."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
import uvloop

from loadtests.gateway.accounting import Usage, tree_usage
from loadtests.gateway.figures import Figures, percentile
from loadtests.gateway.load import Load, Tally, Target, drive, repeat
from loadtests.gateway.peers import Gateway, Site
from loadtests.gateway.processes import child, free_port, last_words
from loadtests.gateway.transcript import DEFAULT_CHUNK_BYTES, Call

PEERS = Path(os.environ.get("PEERS", "~/.cache/penstock-peers")).expanduser()
_READY_LIMIT_S = 90.0
_QUIET = {"LITELLM_LOG": "ERROR", "NO_COLOR": "1"}


class NotReadyError(Exception):
    """A gateway did not answer in time; the message ends with the last of its log."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The load. Whole answers run for `whole_s` seconds; each stream connection asks `repeats` times."""

    gap_ms: float = 20.0
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    prompt_chars: int = 400
    connections: int = 64
    whole_connections: int = 32
    whole_tokens: int = 64
    whole_s: float = 5.0
    stream_tokens: int = 128
    repeats: int = 6
    ramp_s: float = 0.0
    usage: bool = True

    def call(self, *, stream: bool) -> Call:
        """The request of one of the two loads."""
        tokens = self.stream_tokens if stream else self.whole_tokens
        return Call(tokens, stream=stream, usage=self.usage, prompt_chars=self.prompt_chars)


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answers. `pid` is the root of its process tree."""

    target: Target
    pid: int
    engine: Target

    def usage(self) -> Usage:
        """What the gateway has used until now."""
        return tree_usage(self.pid)


@contextmanager
def running(gateway: Gateway, settings: Settings) -> Iterator[Running]:
    """The gateway in front of a stand-in engine of its own, ready to answer, for as long as the block lasts.

    Raises:
        NotReadyError: it did not answer a request within 90 seconds, or ended.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-")))
        engine = Target(free_port())
        site = Site(engine.port, free_port(), free_port(), folder, PEERS)
        pid = stack.enter_context(child(_engine(site, settings), folder / "engine.log")).pid
        _await_ready(engine, pid, folder / "engine.log")
        if gateway.argv is None:
            yield Running(engine, pid, engine)
            return
        log = folder / "gateway.log"
        pid = stack.enter_context(child(gateway.argv(site), log, cwd=folder, env=_QUIET)).pid
        target = Target(site.port, gateway.path, gateway.headers(site))
        _await_ready(target, pid, log)
        yield Running(target, pid, engine)


def _engine(site: Site, settings: Settings) -> list[str]:
    program = [sys.executable, "-m", "loadtests.gateway.engine", "--port", str(site.engine_port)]
    return [*program, "--gap-ms", str(settings.gap_ms), "--chunk-bytes", str(settings.chunk_bytes)]


def _await_ready(target: Target, pid: int, log: Path) -> None:
    until_s = time.monotonic() + _READY_LIMIT_S
    one = Load(1, 1, repeat(target, Call(2)), limit_s=10.0)
    while time.monotonic() < until_s and _alive(pid):
        tally = _drive(target, one)
        if tally.answered == 1:
            return
        time.sleep(0.25)
    raise NotReadyError(f"it did not answer; its log ends: {last_words(log)}")


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def measure(gateway: Gateway, settings: Settings) -> Figures:
    """Start it, warm it up, run both loads, read the kernel's accounts before and after each.

    Raises:
        NotReadyError: the gateway did not answer a first request.
    """
    with running(gateway, settings) as site:
        _warm_up(site, settings)
        before = site.usage()
        whole = _whole(site, settings)
        between = site.usage()
        streamed = _streamed(site, settings)
        after = site.usage()
    faults = {**whole.errors, **{f"stream-{word}": n for word, n in streamed.errors.items()}}
    streamed_cpu_s = after.cpu_s - between.cpu_s
    return Figures(
        gateway=gateway.name,
        request_us=_each_us(between.cpu_s - before.cpu_s, whole.answered),
        requests_per_s=whole.answered / whole.wall_s,
        request_p50_ms=percentile(whole.total_s, 0.5) * 1e3,
        request_p99_ms=percentile(whole.total_s, 0.99) * 1e3,
        chunk_us=_each_us(streamed_cpu_s, streamed.chunks),
        chunks_per_s=streamed.chunks / streamed.wall_s,
        ttft_p50_ms=percentile(streamed.ttft_s, 0.5) * 1e3,
        ttft_p99_ms=percentile(streamed.ttft_s, 0.99) * 1e3,
        max_gap_ms=streamed.max_gap_s * 1e3,
        busy_cores=streamed_cpu_s / streamed.wall_s,
        load_cores=max(tally.cpu_s / tally.wall_s for tally in (whole, streamed)),
        rss_mb=after.rss_bytes / 1e6,
        incomplete=streamed.incomplete,
        errors=faults,
    )


def _each_us(cpu_s: float, count: int) -> float:
    return cpu_s / count * 1e6 if count else float("nan")


def _warm_up(site: Running, settings: Settings) -> None:
    for stream, requests in ((False, 300), (True, 32)):
        call = msgspec.structs.replace(settings, stream_tokens=4).call(stream=stream)
        _drive(site.target, Load(16, requests, repeat(site.target, call)))


def _whole(site: Running, settings: Settings) -> Tally:
    requests = repeat(site.target, settings.call(stream=False))
    load = Load(settings.whole_connections, sys.maxsize, requests, sending_s=settings.whole_s)
    return _drive(site.target, load)


def _streamed(site: Running, settings: Settings) -> Tally:
    requests = repeat(site.target, settings.call(stream=True))
    total = settings.connections * settings.repeats
    load = Load(settings.connections, total, requests, ramp_s=settings.ramp_s)
    return _drive(site.target, load)


def _drive(target: Target, load: Load) -> Tally:
    tally: Tally = uvloop.run(drive(target, load))
    return tally
