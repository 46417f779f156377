"""Token counts and errors, in every shape engines write them; headers; meters."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metering import Histogram, Meter, Outcome, Record, ServiceMeter, outcome_of
from gateway.relay.headers import error_headers, is_event_stream, request_head, valid_request_id, without_hop_by_hop
from gateway.relay.usage import normalise_error, usage_of
from serving.errors import InvalidKey, InvalidRequest, NoEndpoint

USAGES: list[tuple[bytes, tuple[int, int] | None]] = [
    (b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"new":{}}}', (3, 4)),
    (b'{"usage":{"input_tokens":3,"output_tokens":4}}', (3, 4)),
    (b'{"usage":{"prompt_tokens":3,"total_tokens":3}}', (3, 0)),
    (b'{"usage":{}}', (0, 0)),
    (b'{"usage":null}', None),
    (b'{"choices":[]}', None),
    (b'{"usage":5}', None),
    (b'"usage" is not json', None),
    (b'{"a":"\xff","usage":{"prompt_tokens":"many"}}', None),
    (b"", None),
]


@pytest.mark.parametrize(("body", "tokens"), USAGES)
def test_usage(body: bytes, tokens: tuple[int, int] | None) -> None:
    usage = usage_of(body)
    assert (None if usage is None else (usage.tokens_in, usage.tokens_out)) == tokens


def shaped(message: str, type_: str = "api_error", param: Any = None, code: Any = None, **more: Any) -> dict[str, Any]:
    return {"message": message, "type": type_, "param": param, "code": code} | more


ERRORS: list[tuple[bytes, dict[str, Any]]] = [
    (b'{"error":{"message":"a","type":"t","param":"p","code":"c","new":1}}', shaped("a", "t", "p", "c", new=1)),
    (b'{"error":{"message":"a"}}', shaped("a")),
    (b'{"error":{"detail":"a","code":5}}', shaped("a", code=5, detail="a")),
    (b'{"error":{"code":5}}', shaped('The engine failed: {"error":{"code":5}}', code=5)),
    (b'{"error":"a"}', shaped("a")),
    (b'{"error":["a"]}', shaped('The engine failed: {"error":["a"]}')),
    (b'{"error":{},"message":"a"}', shaped("a", error=None)),
    (b'{"object":"error","message":"a","type":"t","code":400}', shaped("a", "t", code="400")),
    (b'{"type":"error","message":"a"}', shaped("a")),
    (b'{"detail":"a"}', shaped("a")),
    (b'{"detail":[1]}', shaped('The engine failed: {"detail":[1]}')),
    (b'"a"', shaped("a")),
    (b'""', shaped('The engine failed: ""')),
    (b"null", shaped("The engine failed: null")),
    (b"<html>", shaped("The engine failed: <html>")),
    (b"\xff", shaped("The engine failed: \ufffd")),
    (b"", shaped("The engine failed.")),
    (b"x" * 1000, shaped("The engine failed: " + "x" * 300)),
]


@pytest.mark.parametrize(("payload", "error"), ERRORS)
def test_errors_in_one_shape(payload: bytes, error: dict[str, Any]) -> None:
    error.pop("error", None)
    assert json.loads(normalise_error(payload)) == {"error": error}


def test_an_error_without_words_has_its_status() -> None:
    assert json.loads(normalise_error(b"", 502))["error"]["message"] == "The engine answered 502."
    assert json.loads(normalise_error(b"<p>", 502))["error"]["message"] == "The engine answered 502: <p>"


@given(st.binary())
def test_any_bytes_make_an_error(payload: bytes) -> None:
    assert set(json.loads(normalise_error(payload))["error"]) >= {"message", "type", "param", "code"}


# -- headers ------------------------------------------------------------------------------------------------------


def test_a_request_head() -> None:
    given_headers = [
        (b"host", b"gateway"),
        (b"authorization", b"Bearer x"),
        (b"connection", b"X-A, close"),
        (b"connection", b"x-b"),
        (b"x-a", b"1"),
        (b"x-b", b"2"),
        (b"x-c", b"3"),
        (b"x-c", b"4"),
        (b"content-length", b"999"),
        (b"transfer-encoding", b"chunked"),
        (b"expect", b"100-continue"),
    ]
    head = request_head(b"POST / HTTP/1.1\r\nhost: engine\r\n", given_headers, dict(given_headers), b"id", 5)
    assert head == (
        b"POST / HTTP/1.1\r\nhost: engine\r\nx-c: 3\r\nx-c: 4\r\nx-request-id: id\r\ncontent-length: 5\r\n\r\n"
    )


def test_a_request_head_without_headers() -> None:
    assert request_head(b"start\r\n", [], {}, b"id", 0) == b"start\r\nx-request-id: id\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("connection", [b"keep-alive", b"Close"])
def test_a_usual_connection_header_hides_nothing_else(connection: bytes) -> None:
    headers = [(b"connection", connection), (b"x-a", b"kept"), (b"date", b"x"), (b"server", b"x")]
    assert without_hop_by_hop(headers, dict(headers)) == [(b"x-a", b"kept")]


def test_headers_named_by_connection_stay_with_it() -> None:
    headers = [(b"x-a", b"1"), (b"connection", b"x-a , x-b"), (b"x-b", b"2"), (b"x-c", b"3")]
    assert without_hop_by_hop(headers, dict(headers)) == [(b"x-c", b"3")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"text/event-stream", True), (b"Text/Event-Stream; charset=utf-8", True), (b"application/json", False)],
)
def test_event_streams(value: bytes, *, expected: bool) -> None:
    assert is_event_stream({b"x": b"text/event-stream", b"content-type": value}) is expected
    assert not is_event_stream({})


@pytest.mark.parametrize(
    ("given_id", "expected"),
    [
        (b"a", True),
        (b"a b", True),
        (b"", False),
        (b"x" * 128, True),
        (b"x" * 129, False),
        (b"\xe9", False),
        (b"a\tb", False),
    ],
)
def test_request_ids(given_id: bytes, *, expected: bool) -> None:
    assert valid_request_id(given_id) is expected


def test_headers_of_an_error_say_how_or_when_to_come_back() -> None:
    kind = (b"content-type", b"application/json")
    assert error_headers(InvalidRequest("x")) == [kind]
    assert error_headers(InvalidKey("x")) == [kind, (b"www-authenticate", b"Bearer")]
    assert error_headers(NoEndpoint("x", retry_after_s=7)) == [kind, (b"retry-after", b"7")]


# -- meters -------------------------------------------------------------------------------------------------------


def test_a_histogram_counts_by_inclusive_upper_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 14.0)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, Outcome.CLIENT_ERROR),
        (429, Outcome.OVERLOADED),
        (499, Outcome.CLIENT_ERROR),
        (500, Outcome.ENGINE_ERROR),
        (504, Outcome.TIMEOUT),
    ],
)
def test_outcomes_by_status(status: int, outcome: Outcome) -> None:
    assert outcome_of(status) is outcome


def test_what_is_admitted_is_given_back_also_when_it_fails() -> None:
    meter = ServiceMeter()

    def fail() -> None:
        with meter.admitted():
            assert meter.in_flight == 1
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert meter.in_flight == 0


def test_a_finished_request_is_added_up() -> None:
    seen: list[Record] = []
    meter = Meter(seen.append)
    record = Record("/", "id", start_s=10.0, service="s", tenant="t", attempts=3, first_s=11.0, last_s=15.0)
    record.outcome, record.tokens_in, record.tokens_out = Outcome.OK, 7, 5
    meter.settle(record, 16.0)
    assert seen == [record]
    assert (record.ttft_s, record.tpot_s, record.duration_s) == (1.0, 1.0, 6.0)
    found = meter.of("s", "t")
    assert (found.outcomes, found.retries) == ({Outcome.OK: 1}, 2)
    assert (found.ttft.total, found.tpot.total, found.duration.total) == (1.0, 1.0, 6.0)
    assert (found.tokens_in.total, found.tokens_out.total) == (7.0, 5.0)


@pytest.mark.parametrize(("events", "tokens", "tpots"), [(0, 0, 0), (1, 1, 0), (5, 5, 1)])
def test_events_stand_in_for_tokens_where_an_engine_gives_none(events: int, tokens: int, tpots: int) -> None:
    meter = Meter(lambda _: None)
    record = Record("/", "id", start_s=10.0, first_s=11.0, last_s=15.0, events=events)
    meter.settle(record, 16.0)
    assert record.tokens_out == tokens
    assert sum(meter.of("", "").tpot.counts) == tpots
    assert meter.of("", "").outcomes == {Outcome.INTERNAL_ERROR: 1}


def test_a_refused_request_has_no_times_of_tokens() -> None:
    meter = Meter(lambda _: None)
    record = Record("/", "id", start_s=10.0, outcome=Outcome.CLIENT_ERROR)
    meter.settle(record, 10.5)
    assert (record.ttft_s, record.tpot_s) == (None, None)
    assert sum(meter.of("", "").ttft.counts) == 0
