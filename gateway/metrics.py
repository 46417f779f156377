"""`/metrics`: the meters in Prometheus' exposition format. Adapter for prometheus_client.

Names follow OpenTelemetry's GenAI conventions where one exists, in Prometheus spelling; the rest is `penstock_*`.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.metering import Histogram, Meter, ServiceMeter
from gateway.upstream.endpoint import EndpointState

_OWNER = ("service", "tenant")


class GatewayCollector(Collector):
    """Reads the meters when a scrape comes."""

    def __init__(
        self,
        meter: Meter,
        endpoints: Callable[[], Iterator[EndpointState]],
        dropped_log_lines: Callable[[], int],
    ) -> None:
        self._meter = meter
        self._endpoints = endpoints
        self._dropped = dropped_log_lines

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield self._histogram("gen_ai_server_time_to_first_token_seconds", _TTFT_HELP, lambda m: m.ttft)
        yield self._histogram("gen_ai_server_time_per_output_token_seconds", _TPOT_HELP, lambda m: m.tpot)
        yield self._histogram(
            "gen_ai_server_request_duration_seconds",
            "From acceptance of a request to its end.",
            lambda m: m.duration,
        )
        yield self._token_usage()
        yield from self._requests()
        yield from self._endpoint_gauges()
        yield CounterMetricFamily(
            "penstock_log_lines_dropped", "Access log lines lost to a stuck writer.", value=self._dropped()
        )

    def _histogram(self, name: str, text: str, of: Callable[[ServiceMeter], Histogram]) -> Metric:
        family = HistogramMetricFamily(name, text, labels=_OWNER)
        for owner, meter in self._meter.by_owner.items():
            if owner[0]:
                buckets, total = _cumulative(of(meter))
                family.add_metric(owner, buckets, total)
        return family

    def _token_usage(self) -> Metric:
        family = HistogramMetricFamily(
            "gen_ai_client_token_usage", "Tokens of one request.", labels=(*_OWNER, "gen_ai_token_type")
        )
        for owner, meter in self._meter.by_owner.items():
            if owner[0]:
                for kind, histogram in (("input", meter.tokens_in), ("output", meter.tokens_out)):
                    buckets, total = _cumulative(histogram)
                    family.add_metric((*owner, kind), buckets, total)
        return family

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "penstock_requests", "Finished requests by how they ended.", labels=(*_OWNER, "outcome")
        )
        retries = CounterMetricFamily("penstock_retries", "Further attempts at requests.", labels=_OWNER)
        running = GaugeMetricFamily("penstock_requests_in_flight", "Requests under way.", labels=_OWNER)
        for owner, meter in self._meter.by_owner.items():
            for outcome, count in meter.outcomes.items():
                requests.add_metric((*owner, outcome.value), count)
            retries.add_metric(owner, meter.retries)
            running.add_metric(owner, meter.in_flight)
        yield requests
        yield retries
        yield running

    def _endpoint_gauges(self) -> Iterator[Metric]:
        families = (
            ("requests_in_flight", "Requests under way at an engine.", lambda e: e.requests),
            (
                "tokens_in_flight",
                "Expected tokens of the requests under way at an engine.",
                lambda e: e.tokens,
            ),
            ("connections", "Connections open to an engine.", lambda e: e.pool.open_connections),
            ("healthy", "1 unless ejected after failures in a row.", lambda e: int(not e.health.ejected)),
        )
        for name, text, value in families:
            family = GaugeMetricFamily(f"penstock_endpoint_{name}", text, labels=("endpoint",))
            for endpoint in self._endpoints():
                family.add_metric((endpoint.name,), value(endpoint))
            yield family


_TTFT_HELP = "From acceptance of a streamed request to its first content sent."
_TPOT_HELP = "Mean time per output token after the first, of one streamed request."


def _cumulative(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Counts as Prometheus wants them: each bucket holds all below it."""
    buckets: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        running += count
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), running))
    return buckets, histogram.total


class Exposition:
    """The text of one scrape; metrics of the process (CPU, memory, descriptors) included."""

    def __init__(self, collector: GatewayCollector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def text(self) -> bytes:
        """Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)
