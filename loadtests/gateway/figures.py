"""The figures of one measurement, their medians over rounds, and the table that is printed. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, isnan
from statistics import median

import msgspec

DIRECT = "direct"
# Ratios are given to these two: the practical limit, and the fastest router made for language models.
YARDSTICKS = ("nginx", "vllm-router")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway, measured once. `*_us` is CPU of its process tree, in microseconds.

    The whole-answer load gives `request_*`, the streamed one `chunk_us`, `chunks_per_s` and `ttft_*`.
    `busy_cores` is what the gateway used during the streamed load; `load_cores` is the most that the load
    generator used: near 1.0 it was the bottleneck. `added_ttft_*` is relative to the engine alone in the same
    round.
    """

    gateway: str
    request_us: float
    requests_per_s: float
    request_p50_ms: float
    request_p99_ms: float
    chunk_us: float
    chunks_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    max_gap_ms: float
    busy_cores: float
    load_cores: float
    rss_mb: float
    incomplete: int = 0
    errors: dict[str, int] = {}
    added_ttft_p50_ms: float | None = None
    added_ttft_p99_ms: float | None = None


def percentile(values: Sequence[float], share: float) -> float:
    """Pure. The nearest-rank percentile; `share` in (0, 1]. Not a number when there are no values."""
    if not values:
        return float("nan")
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def with_added(figures: Figures, direct: Figures | None) -> Figures:
    """Pure. The figures with the time to first token that the gateway added to the engine's own."""
    if direct is None or figures.gateway == DIRECT:
        return figures
    return msgspec.structs.replace(
        figures,
        added_ttft_p50_ms=figures.ttft_p50_ms - direct.ttft_p50_ms,
        added_ttft_p99_ms=figures.ttft_p99_ms - direct.ttft_p99_ms,
    )


def medians(rounds: Sequence[Figures]) -> Figures:
    """Pure. The median of each figure over the rounds of one gateway; faults are summed: none is forgiven."""
    merged: dict[str, object] = {}
    for name in Figures.__struct_fields__:
        values = [getattr(figures, name) for figures in rounds]
        numbers = [value for value in values if isinstance(value, float)]
        merged[name] = median(numbers) if numbers else values[0]
    merged["incomplete"] = sum(figures.incomplete for figures in rounds)
    merged["errors"] = dict(sum((Counter(figures.errors) for figures in rounds), Counter()))
    return msgspec.convert(merged, Figures)


def by_gateway(rounds: Iterable[Figures]) -> dict[str, Figures]:
    """Pure. Medians per gateway, in order of first appearance."""
    grouped: dict[str, list[Figures]] = {}
    for figures in rounds:
        grouped.setdefault(figures.gateway, []).append(figures)
    return {gateway: medians(group) for gateway, group in grouped.items()}


def ratio(value: float | None, to: float | None) -> float | None:
    """Pure. How many times `to`; None where that means nothing."""
    return value / to if value is not None and to else None


def ratios(measured: Mapping[str, Figures]) -> dict[str, dict[str, float | None]]:
    """Pure. CPU per request and per chunk, and added time to first token, as multiples of the yardsticks."""
    return {
        name: {
            f"{figure}/{yardstick}": ratio(getattr(figures, figure), getattr(measured[yardstick], figure))
            for yardstick in YARDSTICKS
            if yardstick in measured
            for figure in ("request_us", "chunk_us", "added_ttft_p50_ms")
        }
        for name, figures in measured.items()
        if name != DIRECT
    }


_HEADINGS = (
    ("gateway", "", ""),
    ("CPU µs", "per", "request"),
    ("x", "", "nginx"),
    ("x", "vllm-", "router"),
    ("CPU µs", "per", "chunk"),
    ("x", "", "nginx"),
    ("x", "vllm-", "router"),
    ("added", "TTFT", "p50 ms"),
    ("added", "TTFT", "p99 ms"),
    ("requests", "per", "second"),
    ("request", "p99", "ms"),
    ("longest", "gap", "ms"),
    ("memory", "", "MB"),
    ("broken", "", "streams"),
    ("errors", "", ""),
)


def table(measured: Mapping[str, Figures]) -> str:
    """Pure. The comparison as aligned text. The engine's own CPU is no gateway's and is left out."""
    multiples = ratios(measured)
    rows = [_cells(figures, multiples.get(name, {})) for name, figures in measured.items()]
    lines = [list(line) for line in zip(*_HEADINGS, strict=True)] + rows
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    text = [_aligned(line, widths) for line in lines]
    text.insert(3, "-" * sum(widths, 2 * len(widths) - 2))
    return "\n".join(text)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    first = line[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest]).rstrip()


def _cells(figures: Figures, multiples: Mapping[str, float | None]) -> list[str]:
    engine = figures.gateway == DIRECT
    cpu = ["-"] * 6 if engine else _cpu_cells(figures, multiples)
    errors = " ".join(f"{word}:{count}" for word, count in sorted(figures.errors.items()))
    return [
        figures.gateway,
        *cpu,
        _number(None if engine else figures.added_ttft_p50_ms, 2),
        _number(None if engine else figures.added_ttft_p99_ms, 2),
        _number(figures.requests_per_s, 0),
        _number(figures.request_p99_ms, 1),
        _number(figures.max_gap_ms, 0),
        _number(figures.rss_mb, 0),
        str(figures.incomplete),
        errors or "0",
    ]


def _cpu_cells(figures: Figures, multiples: Mapping[str, float | None]) -> list[str]:
    nginx, router = YARDSTICKS
    return [
        _number(figures.request_us, 1),
        _number(multiples.get(f"request_us/{nginx}"), 2),
        _number(multiples.get(f"request_us/{router}"), 2),
        _number(figures.chunk_us, 1),
        _number(multiples.get(f"chunk_us/{nginx}"), 2),
        _number(multiples.get(f"chunk_us/{router}"), 2),
    ]


def _number(value: float | None, places: int) -> str:
    return "-" if value is None or isnan(value) else f"{value:,.{places}f}"
