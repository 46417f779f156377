"""Medians, ratios and the table, on figures known beforehand."""

import math

import msgspec
import pytest

from loadtests.gateway.figures import (
    Figures,
    by_gateway,
    medians,
    percentile,
    ratio,
    ratios,
    table,
    with_added,
)


def figures(gateway: str, request_us: float, chunk_us: float, ttft_ms: float = 2.0) -> Figures:
    return Figures(
        gateway=gateway,
        request_us=request_us,
        requests_per_s=1000.0,
        request_p50_ms=1.0,
        request_p99_ms=2.0,
        chunk_us=chunk_us,
        chunks_per_s=3000.0,
        ttft_p50_ms=ttft_ms,
        ttft_p99_ms=2 * ttft_ms,
        max_gap_ms=25.0,
        busy_cores=0.1,
        load_cores=0.1,
        rss_mb=50.0,
    )


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0), ([float(n) for n in range(1, 101)], 0.99, 99.0)],
)
def test_percentiles_are_nearest_ranks(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_a_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 0.5))


def test_added_time_is_relative_to_the_engine_alone() -> None:
    direct = figures("direct", 5.0, 5.0, ttft_ms=1.5)
    added = with_added(figures("nginx", 10.0, 10.0, ttft_ms=2.0), direct)
    assert (added.added_ttft_p50_ms, added.added_ttft_p99_ms) == (0.5, 1.0)
    assert with_added(direct, direct) == direct
    assert with_added(added, None) == added


def test_rounds_give_medians_and_every_fault_counts() -> None:
    rounds = [figures("nginx", us, 10.0) for us in (30.0, 10.0, 11.0)]
    rounds[1] = msgspec.structs.replace(rounds[1], errors={"502": 2}, incomplete=1)
    rounds[2] = msgspec.structs.replace(rounds[2], errors={"502": 1, "cut": 1})
    middle = medians(rounds)
    assert middle.request_us == 11.0
    assert (middle.errors, middle.incomplete) == ({"502": 3, "cut": 1}, 1)
    assert middle.added_ttft_p50_ms is None
    assert list(by_gateway([*rounds, figures("direct", 1.0, 1.0)])) == ["nginx", "direct"]


def test_ratios_to_nginx_and_vllm_router() -> None:
    measured = {
        name: with_added(figures(name, request, chunk, ttft), figures("direct", 1.0, 1.0, 1.0))
        for name, request, chunk, ttft in (
            ("penstock", 40.0, 16.0, 1.6),
            ("nginx", 20.0, 10.0, 1.2),
            ("vllm-router", 80.0, 20.0, 1.3),
        )
    }
    row = ratios(measured)["penstock"]
    assert row["request_us/nginx"] == 2.0
    assert row["request_us/vllm-router"] == 0.5
    assert row["chunk_us/nginx"] == 1.6
    assert row["chunk_us/vllm-router"] == 0.8
    assert row["added_ttft_p50_ms/vllm-router"] == pytest.approx(2.0)


def test_without_a_yardstick_there_is_no_ratio() -> None:
    assert ratios({"penstock": figures("penstock", 1.0, 1.0)}) == {"penstock": {}}
    assert ratio(1.0, 0.0) is None
    assert ratio(None, 1.0) is None


def test_the_table_shows_ratios_faults_and_no_cpu_of_the_engine_alone() -> None:
    broken = msgspec.structs.replace(figures("penstock", 40.0, math.nan), errors={"stream-cut": 3}, incomplete=3)
    measured = {g.gateway: g for g in (figures("direct", 7.0, 7.0), figures("nginx", 20.0, 10.0), broken)}
    lines = table(measured).splitlines()
    direct, nginx, penstock = (line.split() for line in lines[4:])
    assert direct[:7] == ["direct", *["-"] * 6]
    assert nginx[1:7] == ["20.0", "1.00", "-", "10.0", "1.00", "-"]
    assert penstock[1:5] == ["40.0", "2.00", "-", "-"]
    assert penstock[-2:] == ["3", "stream-cut:3"]
    assert len({len(line) for line in lines[3:4]}) == 1
