"""The engine's Prometheus metrics, and its load signals among them. Names are its own:
`penstock_engine_*`.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from engines.huggingface.engine import Load
from engines.huggingface.sequence import Delta
from engines.huggingface.ticket import Ticket

_TTFT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_GAP_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_WHOLE_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One engine's metrics in a registry of their own. Updated on the event loop only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"penstock_engine_{name}", what, labels, registry=self.registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"penstock_engine_{name}", what, buckets=buckets, registry=self.registry)

        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of accepted requests.")
        self.generation_tokens = counter("generation_tokens", "Tokens generated.")
        self.finished = counter("requests_finished", "Sequences ended, by why.", "reason")
        self.refused = counter("requests_refused", "Requests refused because the queue was full.")
        self.ttft = histogram("time_to_first_token_seconds", "From request accepted to first token.", _TTFT_S)
        self.gap = histogram("inter_token_latency_seconds", "Between two tokens of a sequence.", _GAP_S)
        self.whole = histogram("e2e_request_latency_seconds", "From request accepted to last token.", _WHOLE_S)
        self.queued = histogram("request_queue_time_seconds", "From request accepted to joining a batch.", _TTFT_S)

    def watch(self, load: Load) -> None:
        """Report this load whenever metrics are read."""

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"penstock_engine_{name}", what, registry=self.registry)

        gauge("requests_running", "Sequences in the batch.").set_function(lambda: load.running)
        gauge("requests_waiting", "Sequences waiting for a place in the batch.").set_function(lambda: load.waiting)
        gauge("kv_cache_usage", "Share of the key/value cache in use, 0 to 1.").set_function(lambda: load.kv_usage)
        gauge("preempted", "Sequences put back to wait since the start.").set_function(lambda: load.preempted)

    def produced(self, ticket: Ticket, key: int, delta: Delta, at_s: float) -> None:
        """Count what a step gave one sequence of a request."""
        last = ticket.last_s.get(key)
        if last is None:
            self.ttft.observe(at_s - ticket.arrived_s)
            self.queued.observe(delta.queued_s)
        else:
            self.gap.observe(at_s - last)
        ticket.last_s[key] = at_s
        self.generation_tokens.inc(delta.tokens)
        if delta.finish_reason is not None:
            self.finished.labels(delta.finish_reason).inc()
            self.whole.observe(at_s - ticket.arrived_s)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
