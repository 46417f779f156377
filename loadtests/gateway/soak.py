"""Does the gateway give everything back? Memory and descriptors over many requests, then over many hang-ups.

    python -m loadtests.gateway.soak --requests 200000 --hangups 20000

Samples are taken between batches, when no client is connected. The first batches warm up; from then on memory
and open descriptors may not grow by more than 5 %, no request may fail, and the engine must have nothing left
to do. `cancelled` counts what the engine stopped because its client had gone.
Exit status: 0 flat, 1 not, 2 wrong arguments or no such gateway here.
"""

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import uvloop

from loadtests.gateway.answer import Stats
from loadtests.gateway.hangup import hang_up
from loadtests.gateway.load import Load, Sending, Target, drive
from loadtests.gateway.measure import NotReadyError, Running, Settings, running
from loadtests.gateway.peers import GATEWAYS
from loadtests.gateway.processes import end_on_sigterm
from loadtests.gateway.run import present
from loadtests.gateway.transcript import Call

TOLERANCE = 0.05
# A pool of idle connections breathes; a leak of one descriptor per thousand hang-ups would still show.
_SPARE_DESCRIPTORS = 8
_BATCHES = 20
_WARM_UP_BATCHES = 2
_WARM_UP_REQUESTS = 2_000  # before the first sample: a small run is not judged on the filling of its pools
_CONNECTIONS = 64
_SETTLE_S = 0.5
_STOP_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The gateway at rest, after `done` requests or hang-ups of a phase."""

    phase: str
    done: int
    at_s: float
    rss_bytes: int
    descriptors: int
    engine: Stats
    faults: str = ""


def growth(samples: Sequence[Sample]) -> list[str]:
    """Pure. What is not flat in the samples of one phase, as sentences; nothing when all is well.

    The reference is the last sample of the warm-up, and the worst of those after it must hold.
    """
    warm = samples[min(_WARM_UP_BATCHES, len(samples)) - 1]
    later = samples[_WARM_UP_BATCHES:] or samples
    wrong = [f"{s.phase}: after {s.done:,}: {s.faults}" for s in samples if s.faults]
    rss = max(sample.rss_bytes for sample in later)
    if rss > warm.rss_bytes * (1 + TOLERANCE):
        wrong.append(f"{warm.phase}: memory grew from {warm.rss_bytes / 1e6:.1f} to {rss / 1e6:.1f} MB")
    descriptors = max(sample.descriptors for sample in later)
    allowed = max(math.floor(warm.descriptors * (1 + TOLERANCE)), warm.descriptors + _SPARE_DESCRIPTORS)
    if descriptors > allowed:
        wrong.append(f"{warm.phase}: descriptors grew from {warm.descriptors} to {descriptors}")
    left = max(sample.engine.running for sample in samples)
    if left:
        wrong.append(f"{warm.phase}: the engine still worked on {left} requests that nobody waits for")
    return wrong


def batches(total: int, count: int = _BATCHES) -> list[int]:
    """Pure. `total` in at most `count` even parts."""
    parts = min(count, total)
    return [total * (i + 1) // parts - total * i // parts for i in range(parts)]


async def engine_stats(engine: Target) -> Stats:
    """What the stand-in has counted."""
    reader, writer = await asyncio.open_connection(engine.host, engine.port)
    try:
        writer.write(f"GET /stats HTTP/1.1\r\nHost: {engine.host}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return msgspec.json.decode(await reader.readexactly(length), type=Stats)
    finally:
        writer.close()


def _engine_at_rest(engine: Target) -> Stats:
    """The engine's counts once it has had time to notice that all clients are gone."""
    until_s = time.monotonic() + _STOP_LIMIT_S
    while True:
        stats: Stats = uvloop.run(engine_stats(engine))
        if not stats.running or time.monotonic() > until_s:
            return stats
        time.sleep(0.05)


def _mixed(target: Target) -> list[Sending]:
    """Whole answers and streams with and without usage, in turn."""
    calls = (Call(8), Call(8, stream=True), Call(8), Call(8, stream=True, usage=False))
    return [Sending(target.request(call), call.stream) for call in calls]


async def _requests(site: Running, count: int) -> str:
    mixed = _mixed(site.target)
    load = Load(_CONNECTIONS, count, lambda n: mixed[n % len(mixed)], limit_s=600.0)
    tally = await drive(site.target, load)
    return "" if tally.flawless else f"errors {dict(tally.errors)}, {tally.incomplete} broken streams"


async def _hangups(site: Running, count: int) -> str:
    left = await hang_up(site.target, count, _CONNECTIONS)
    return f"{left['failed']} could not be left unanswered" if left["failed"] else ""


def soak(site: Running, requests: int, hangups: int) -> list[Sample]:
    """Both phases; prints each sample as it is taken."""
    start_s = time.monotonic()
    samples: list[Sample] = []
    headings = ("seconds", "memory MB", "descriptors", "running", "cancelled")
    print(f"{'phase':10} {'done':>10}", *(f"{heading:>12}" for heading in headings))
    uvloop.run(_requests(site, _WARM_UP_REQUESTS))
    for phase, total, work in (("requests", requests, _requests), ("hang-ups", hangups, _hangups)):
        done = 0
        for batch in batches(total):
            faults: str = uvloop.run(work(site, batch))
            stats = _engine_at_rest(site.engine)
            time.sleep(_SETTLE_S)
            done += batch
            usage = site.usage()
            at_s = time.monotonic() - start_s
            sample = Sample(phase, done, at_s, usage.rss_bytes, usage.descriptors, stats, faults)
            samples.append(sample)
            print(_line(sample), flush=True)
    return samples


def _line(sample: Sample) -> str:
    cells = (f"{sample.at_s:.1f}", f"{sample.rss_bytes / 1e6:.1f}", sample.descriptors)
    counts = (*cells, sample.engine.running, sample.engine.cancelled)
    aligned = " ".join(f"{cell:>12}" for cell in counts)
    return f"{sample.phase:10} {sample.done:10,} {aligned}  {sample.faults}".rstrip()


def verdict(samples: Sequence[Sample]) -> list[str]:
    """Pure. What is not flat in any phase."""
    phases = dict.fromkeys(sample.phase for sample in samples)
    return [line for phase in phases for line in growth([s for s in samples if s.phase == phase])]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m loadtests.gateway.soak", description=summary)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--hangups", type=int, default=20_000)
    parser.add_argument("--gateway", choices=list(GATEWAYS), default="penstock")
    options = parser.parse_args(argv)
    if min(options.requests, options.hangups) < 0:
        parser.error("--requests and --hangups are at least 0")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Soak one gateway and judge it."""
    options = _arguments(argv)
    end_on_sigterm()
    _, absent = present([options.gateway])
    if absent:
        print(f"{options.gateway}: {absent[options.gateway]}", file=sys.stderr)
        return 2
    try:
        with running(GATEWAYS[options.gateway], Settings(gap_ms=0.0)) as site:
            wrong = verdict(soak(site, options.requests, options.hangups))
    except NotReadyError as error:
        print(f"{options.gateway}: {error}", file=sys.stderr)
        return 2
    print("\n".join(wrong) if wrong else "flat: memory and descriptors within 5 %, nothing left running")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
