"""A thousand streams at once through one worker, each checked byte for byte against what the engine sent.

    python -m loadtests.gateway.streams --streams 1000 --tokens 100 --gap 100

Every stream has a text of its own. Every other one asks for no usage, so that a gateway which adds it for its
own metering must take it out again. Passes when no stream fails, ends early, differs, or falls silent for a
second longer than the engine does. Exit status: 0 passed, 1 not, 2 wrong arguments or no such gateway here.
"""

import argparse
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvloop

from loadtests.gateway.answer import Stats
from loadtests.gateway.figures import percentile
from loadtests.gateway.load import Load, Sending, Tally, Target, drive
from loadtests.gateway.measure import NotReadyError, Settings, running
from loadtests.gateway.peers import GATEWAYS
from loadtests.gateway.processes import end_on_sigterm
from loadtests.gateway.run import present
from loadtests.gateway.soak import engine_stats
from loadtests.gateway.transcript import DEFAULT_CHUNK_BYTES, MIN_CHUNK_BYTES, Call, whole_stream

STALL_S = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `cpu_s` is the gateway's."""

    tally: Tally
    stats: Stats
    cpu_s: float
    rss_bytes: int


def checked(target: Target, tokens: int, chunk_bytes: int) -> Callable[[int], Sending]:
    """Requests of which each has another text to expect, and every other one asks for usage."""

    def request(number: int) -> Sending:
        call = Call(tokens, stream=True, usage=number % 2 == 0, seed=number)
        return Sending(target.request(call), stream=True, expected=whole_stream(call.ask(), chunk_bytes))

    return request


def faults(outcome: Outcome, streams: int, gap_s: float) -> list[str]:
    """Pure. Why the run did not pass, as sentences; nothing when it did."""
    tally = outcome.tally
    judged = (
        (bool(tally.errors), f"errors: {dict(tally.errors)}"),
        (tally.incomplete > 0, f"{tally.incomplete} streams did not end in one [DONE]"),
        (tally.mismatched > 0, f"{tally.mismatched} streams differ from what the engine sent"),
        (tally.max_gap_s > gap_s + STALL_S, f"a stream was silent for {tally.max_gap_s:.2f} s"),
        (outcome.stats.peak < streams, f"only {outcome.stats.peak} streams ran at once, not {streams}"),
    )
    return [sentence for wrong, sentence in judged if wrong]


def report(outcome: Outcome) -> str:
    """Pure. The figures in lines."""
    tally, stats = outcome.tally, outcome.stats
    each_us = outcome.cpu_s / max(1, tally.chunks) * 1e6
    median_ms, p99_ms = (percentile(tally.ttft_s, share) * 1e3 for share in (0.5, 0.99))
    cores, memory_mb = outcome.cpu_s / tally.wall_s, outcome.rss_bytes / 1e6
    lines = (
        f"streams        {tally.answered} answered, {stats.peak} at once at most",
        f"broken         {tally.incomplete} incomplete, {tally.mismatched} differ, {dict(tally.errors)}",
        f"longest gap    {tally.max_gap_s * 1e3:.0f} ms",
        f"TTFT           p50 {median_ms:.1f} ms, p99 {p99_ms:.1f} ms",
        f"gateway        {each_us:.1f} µs CPU per chunk, {cores:.2f} cores, {memory_mb:.0f} MB",
        f"load generator {tally.cpu_s / tally.wall_s:.2f} cores",
    )
    return "\n".join(lines)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m loadtests.gateway.streams", description=summary)
    parser.add_argument("--streams", type=int, default=1000, help="at once")
    parser.add_argument("--rounds", type=int, default=1, help="streams one after another on each connection")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--gap", type=float, default=100.0, help="ms between tokens")
    parser.add_argument("--ramp", type=float, default=0.0, help="open the connections over so many seconds")
    parser.add_argument("--chunk-bytes", type=int, default=DEFAULT_CHUNK_BYTES)
    parser.add_argument("--gateway", choices=list(GATEWAYS), default="penstock")
    options = parser.parse_args(argv)
    if min(options.streams, options.rounds, options.tokens) < 1 or min(options.gap, options.ramp) < 0:
        parser.error("--streams, --rounds and --tokens are at least 1; --gap and --ramp at least 0")
    if options.chunk_bytes < MIN_CHUNK_BYTES:
        parser.error(f"--chunk-bytes: the least is {MIN_CHUNK_BYTES}")
    return options


def allow_descriptors(wanted: int) -> None:
    """Raise the soft limit of open files, which children inherit, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))


def run(options: argparse.Namespace) -> Outcome:
    """Start the gateway and send it the streams.

    Raises:
        NotReadyError: the gateway did not answer a first request.
    """
    settings = Settings(gap_ms=options.gap, chunk_bytes=options.chunk_bytes)
    limit_s = 60.0 + options.ramp + 4 * options.rounds * options.tokens * options.gap / 1000
    with running(GATEWAYS[options.gateway], settings) as site:
        before = site.usage()
        requests = checked(site.target, options.tokens, options.chunk_bytes)
        total = options.streams * options.rounds
        load = Load(options.streams, total, requests, ramp_s=options.ramp, limit_s=limit_s)
        tally: Tally = uvloop.run(drive(site.target, load))
        after = site.usage()
        stats: Stats = uvloop.run(engine_stats(site.engine))
    return Outcome(tally, stats, after.cpu_s - before.cpu_s, after.rss_bytes)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the streams and judge."""
    options = _arguments(argv)
    end_on_sigterm()
    allow_descriptors(4 * options.streams + 256)
    _, absent = present([options.gateway])
    if absent:
        print(f"{options.gateway}: {absent[options.gateway]}", file=sys.stderr)
        return 2
    try:
        outcome = run(options)
    except NotReadyError as error:
        print(f"{options.gateway}: {error}", file=sys.stderr)
        return 2
    wrong = faults(outcome, options.streams, options.gap / 1000)
    print(report(outcome))
    print("\n".join(wrong) if wrong else "passed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
