"""Gateways side by side on one machine: CPU per request and per streamed chunk, added time to first token.

    python -m loadtests.gateway.run --only penstock,nginx --rounds 3 --json figures.json

Each gateway runs alone, in front of a fresh stand-in engine, under the same closed-loop load. A round goes
through all of them, each from another start, so that a drift of the machine hits all alike. The table gives
medians over rounds.
docs/benchmarks.md says how to read it. Exit status: 0 measured, 1 some gateway failed, 2 wrong arguments.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtests.gateway.figures import DIRECT, Figures, by_gateway, ratios, table, with_added
from loadtests.gateway.measure import PEERS, NotReadyError, Settings, measure
from loadtests.gateway.peers import GATEWAYS, Gateway, Site, missing
from loadtests.gateway.processes import end_on_sigterm
from loadtests.gateway.transcript import DEFAULT_CHUNK_BYTES, MIN_CHUNK_BYTES


class Report(msgspec.Struct, frozen=True):
    """What `--json` writes. `unmeasured` says of each gateway left out why."""

    machine: str
    settings: Settings
    medians: dict[str, Figures]
    ratios: dict[str, dict[str, float | None]]
    unmeasured: dict[str, str]
    rounds: list[Figures]


def order(names: Sequence[str], round_number: int) -> list[str]:
    """Pure. The engine alone first, then the others, starting with another one each round."""
    others = [name for name in names if name != DIRECT]
    start = round_number % len(others) if others else 0
    return [DIRECT, *others[start:], *others[:start]]


def present(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Those that can run here, and why the others cannot."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(0, 0, 0, Path(folder), PEERS)
        absent = {name: reason for name in names if (reason := missing(GATEWAYS[name], site))}
    return [name for name in names if name not in absent], absent


def measure_all(names: Sequence[str], settings: Settings, rounds: int) -> tuple[list[Figures], dict[str, str]]:
    """Figures of all rounds, and of each gateway that failed why. One that failed is not tried again."""
    measured: list[Figures] = []
    failed: dict[str, str] = {}
    for round_number in range(rounds):
        direct: Figures | None = None
        for name in order(names, round_number):
            if name in failed:
                continue
            figures = _measure_one(GATEWAYS[name], settings, failed)
            if figures is None:
                continue
            direct = figures if name == DIRECT else direct
            figures = with_added(figures, direct)
            measured.append(figures)
            _say(f"round {round_number + 1}  {_brief(figures)}")
    return measured, failed


def _measure_one(gateway: Gateway, settings: Settings, failed: dict[str, str]) -> Figures | None:
    try:
        return measure(gateway, settings)
    except NotReadyError as error:
        failed[gateway.name] = str(error)
        _say(f"{gateway.name} failed: {error}")
        return None


def _brief(figures: Figures) -> str:
    return (
        f"{figures.gateway:14} {figures.request_us:9.1f} us/request {figures.chunk_us:7.2f} us/chunk "
        f"ttft {figures.ttft_p50_ms:.2f}/{figures.ttft_p99_ms:.2f} ms "
        f"cores {figures.busy_cores:.2f}, load generator {figures.load_cores:.2f}"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def machine() -> str:
    """The machine in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].strip() if names else model
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {model}, {platform.system()} {platform.release()}, {python}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m loadtests.gateway.run", description=summary)
    parser.add_argument("--only", default=",".join(GATEWAYS), help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--gap", type=float, default=20.0, help="ms between tokens; 0 is back to back")
    parser.add_argument("--conc", type=int, default=64, help="streams at once")
    parser.add_argument("--chunk-bytes", type=int, default=DEFAULT_CHUNK_BYTES)
    parser.add_argument("--prompt-chars", type=int, default=400)
    parser.add_argument("--ramp", type=float, default=0.0, help="open the stream connections over so many seconds")
    parser.add_argument("--no-usage", action="store_true", help="do not ask for usage at the end of streams")
    parser.add_argument("--quick", action="store_true", help="a third of the load")
    options = parser.parse_args(argv)
    unknown = [name for name in options.only.split(",") if name not in GATEWAYS]
    if unknown:
        parser.error(f"--only: no gateway {', '.join(unknown)}; there are {', '.join(GATEWAYS)}")
    if options.chunk_bytes < MIN_CHUNK_BYTES:
        parser.error(f"--chunk-bytes: the least is {MIN_CHUNK_BYTES}")
    if min(options.rounds, options.conc) < 1 or min(options.gap, options.ramp, options.prompt_chars) < 0:
        parser.error("--rounds and --conc are at least 1; --gap, --ramp and --prompt-chars at least 0")
    return options


def _settings(options: argparse.Namespace) -> Settings:
    settings = Settings(
        gap_ms=options.gap,
        chunk_bytes=options.chunk_bytes,
        prompt_chars=options.prompt_chars,
        connections=options.conc,
        ramp_s=options.ramp,
        usage=not options.no_usage,
    )
    return msgspec.structs.replace(settings, whole_s=1.5, repeats=2) if options.quick else settings


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    options = _arguments(argv)
    end_on_sigterm()
    names, absent = present(options.only.split(","))
    for name, reason in absent.items():
        _say(f"{name} skipped: {reason}")
    settings = _settings(options)
    rounds, failed = measure_all(names, settings, options.rounds)
    measured = by_gateway(rounds)
    print(f"{machine()}\nmedian of {options.rounds} rounds; {settings}\n\n{table(measured)}")
    if options.json:
        report = Report(machine(), settings, measured, ratios(measured), {**absent, **failed}, rounds)
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
