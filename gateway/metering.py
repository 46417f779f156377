"""What is known of one request when it ends, and where it is added up. Pure data and counters; no clock.

Histograms here are a list of counts and a bisection: an observation costs a fifth of a microsecond, where the client
library's own costs two. The library still writes them out (`gateway/metrics.py`).
"""

from bisect import bisect_left
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

# Seconds. From a cached short prompt on a fast GPU to a minute in a queue.
TTFT_BUCKETS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
    160.0,
)
# Seconds for each output token after the first: 1,000 tokens/s down to one in 2.5 s.
TPOT_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.015,
    0.02,
    0.025,
    0.03,
    0.04,
    0.05,
    0.06,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
)
# Seconds, whole requests.
DURATION_BUCKETS = (
    0.01,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    15.0,
    30.0,
    60.0,
    120.0,
    240.0,
    480.0,
    960.0,
)
# Tokens, powers of four as OpenTelemetry's GenAI conventions advise.
TOKEN_BUCKETS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)


NOT_YET = 0.0  # one object: the encoder leaves a field out if it holds the default itself


class Outcome(StrEnum):
    """How a request ended, in one word."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    CLIENT_CLOSED = "client_closed"
    OVERLOADED = "overloaded"
    ENGINE_ERROR = "engine_error"
    TIMEOUT = "timeout"
    INTERNAL_ERROR = "internal_error"


def outcome_of(status: int) -> Outcome:
    """Pure. The outcome word for an error status that an engine gave."""
    if status == 429:
        return Outcome.OVERLOADED
    if status == 504:
        return Outcome.TIMEOUT
    return Outcome.CLIENT_ERROR if status < 500 else Outcome.ENGINE_ERROR


class Histogram:
    """Counts of values by bucket; `bounds` are upper bounds, inclusive, ascending."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Record(Struct, omit_defaults=True, gc=False):
    """One request on its way through, and its line in the access log.

    `time` is Unix time of acceptance; durations in seconds; the rest of the times are on the monotonic clock,
    NOT_YET before they are known, and are left out of the log.
    """

    path: str
    request_id: str
    start_s: float = NOT_YET
    time: float = 0.0
    status: int = 0
    outcome: Outcome | None = None
    duration_s: float = 0.0
    ttft_s: float | None = None
    tpot_s: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    model: str = ""
    service: str = ""
    tenant: str = ""
    stream: bool = False
    bytes_in: int = 0
    endpoint: str = ""
    attempts: int = 0
    error_code: str | None = None
    events: int = 0
    first_s: float = NOT_YET
    last_s: float = NOT_YET


class ServiceMeter:
    """What one service and tenant have used."""

    __slots__ = ("duration", "in_flight", "outcomes", "retries", "tokens_in", "tokens_out", "tpot", "ttft")

    def __init__(self) -> None:
        self.ttft = Histogram(TTFT_BUCKETS)
        self.tpot = Histogram(TPOT_BUCKETS)
        self.duration = Histogram(DURATION_BUCKETS)
        self.tokens_in = Histogram(TOKEN_BUCKETS)
        self.tokens_out = Histogram(TOKEN_BUCKETS)
        self.outcomes: dict[Outcome, int] = {}
        self.retries = 0
        self.in_flight = 0

    def admitted(self) -> "Admitted":
        """Counts a request as in flight inside `with`."""
        return Admitted(self)


class Admitted:
    """One request in flight, given back however it ends."""

    __slots__ = ("_meter",)

    def __init__(self, meter: ServiceMeter) -> None:
        self._meter = meter

    def __enter__(self) -> None:
        self._meter.in_flight += 1

    def __exit__(self, *_: object) -> None:
        self._meter.in_flight -= 1


class Meter:
    """All meters. `on_settled` is called with each finished record (the access log)."""

    def __init__(self, on_settled: Callable[[Record], None]) -> None:
        self.by_owner: dict[tuple[str, str], ServiceMeter] = {}
        self._on_settled = on_settled

    def of(self, service: str, tenant: str) -> ServiceMeter:
        """The meter of a service and tenant; "" where a request was refused before either was known."""
        meter = self.by_owner.get((service, tenant))
        if meter is None:
            meter = self.by_owner[service, tenant] = ServiceMeter()
        return meter

    def settle(self, record: Record, now: float) -> None:
        """Add a finished request up, once. `now` on the record's clock."""
        meter = self.of(record.service, record.tenant)
        outcome = record.outcome or Outcome.INTERNAL_ERROR
        meter.outcomes[outcome] = meter.outcomes.get(outcome, 0) + 1
        record.duration_s = now - record.start_s
        meter.duration.observe(record.duration_s)
        if record.attempts > 1:
            meter.retries += record.attempts - 1
        if record.first_s:
            if not record.tokens_out:
                record.tokens_out = record.events  # the engine gave no usage: its chunks, about one a token
            record.ttft_s = record.first_s - record.start_s
            meter.ttft.observe(record.ttft_s)
            if record.tokens_out > 1:
                record.tpot_s = (record.last_s - record.first_s) / (record.tokens_out - 1)
                meter.tpot.observe(record.tpot_s)
        if record.tokens_in:
            meter.tokens_in.observe(record.tokens_in)
        if record.tokens_out:
            meter.tokens_out.observe(record.tokens_out)
        self._on_settled(record)
