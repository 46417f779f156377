"""Several requests on one connection, connections that end at the wrong moment, and clients that do not read."""

import contextlib
import json
import time
from collections.abc import Iterator

import pytest

from tests.gateway.edge_case import (
    BODY,
    CHAT,
    CHUNKED,
    CHUNKS,
    GOOD,
    LAST,
    LENGTH,
    STREAM,
    Case,
    carry_out,
    check_answer,
    get,
)
from tests.gateway.edge_rig import PATIENCE_S, Rig, post, rig_of
from tests.gateway.edge_wire import Wire

HELD = b'{"model": "m", "hold": true}'
HELD_STREAM = b'{"model": "m", "hold": true, "stream": true}'
PROBE = b"GET /healthz HTTP/1.1\r\nhost: edge\r\n\r\n"
MAX_PIPELINED = 64


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A gateway that is patient with the living and not with the dead."""
    with rig_of(timeouts={"body_s": 2.0, "idle_s": 3.0, "keep_alive_s": 1.5}) as running:
        yield running
        running.check_accounts()


PIPELINED = [
    Case("two", (GOOD + GOOD,), (200, 200), 2, stays=True),
    Case("stream, then not", (post(STREAM) + GOOD,), (200, 200), 2, stays=True),
    Case("not, then stream", (GOOD + post(STREAM),), (200, 200), 2, stays=True),
    Case("streams", (post(STREAM) * 5,), (200,) * 5, 5, stays=True),
    Case("probe, chat, probe", (PROBE + GOOD + PROBE,), (200,) * 3, 1, stays=True),
    Case("chunked, then not", (CHUNKED + CHUNKS + GOOD,), (200, 200), 2, stays=True),
    Case("a wrong one between", (GOOD + post(b"{}") + GOOD,), (200, 400, 200), 2, stays=True),
    Case(
        "cut in the middle of the second",
        ((GOOD + GOOD)[: len(GOOD) + 60], (GOOD + GOOD)[len(GOOD) + 60 :]),
        (200, 200),
        2,
        stays=True,
    ),
    Case("after Connection: close", (LAST + GOOD,), (200,), 1),
    Case("after HTTP/1.0", (post(BODY, version=b"1.0") + GOOD,), (200,), 1),
    Case("garbage after a request", (GOOD + b"garbage\r\n\r\n",), (200,), 1),
    Case("garbage after two", (GOOD + post(STREAM) + b"\x00\x00",), (200, 200), 2),
    Case("a bad length after a stream", (post(STREAM) + CHAT + b"content-length: -1\r\n\r\n",), (200,), 1),
    Case("a bad chunk after a stream", (post(STREAM) + CHUNKED + b"zz\r\n",), (200,), 1),
    Case("a bad chunk after two", (GOOD + post(STREAM) + CHUNKED + b"zz\r\n",), (200, 200), 2),
    Case("much garbage after a request", (GOOD + b"\x00" * 2_000_000,), (200,), 1),
    Case("half a request, then closed", (GOOD[:-5],), (), fin=True),
    Case("as many as allowed", (PROBE * (MAX_PIPELINED + 1),), (200,) * (MAX_PIPELINED + 1), stays=True),
    Case("too many", (PROBE * 5000,), (200,) * (MAX_PIPELINED + 1)),
    Case("large bodies", (post(b'{"model": "m", "x": "%b"}' % (b"a" * 200_000)) * 3,), (200,) * 3, 3, stays=True),
]
VERSION_1_0 = [
    Case("whole answer", (post(BODY, version=b"1.0"),), (200,), 1),
    Case("keep-alive asked for", (post(BODY, b"connection: keep-alive", version=b"1.0"),), (200,), 1),
    Case("stream", (post(STREAM, version=b"1.0"),), (200,), 1),
    Case("stream, keep-alive asked for", (post(STREAM, b"connection: keep-alive", version=b"1.0"),), (200,), 1),
    Case("probe", (get(b"/healthz", version=b"1.0"),), (200,)),
    Case("wrong", (post(b"{}", version=b"1.0"),), (400,)),
    Case("nowhere", (post(BODY, path=b"/nope", version=b"1.0"),), (404,)),
]
CLOSING = [
    Case("Connection: close", (LAST,), (200,), 1),
    Case("Connection: CLOSE", (post(BODY, b"connection: CLOSE"),), (200,), 1),
    Case("Connection: close with a stream", (post(STREAM, b"connection: close"),), (200,), 1),
    Case("Connection: close among others", (post(BODY, b"connection: x, close"),), (200,), 1),
    Case("Connection: keep-alive", (post(BODY, b"connection: keep-alive"),), (200,), 1, stays=True),
    Case("half-closed", (post(HELD),), (), 1, fin=True),
    Case("half-closed in a stream's place", (post(HELD) + GOOD,), (), 1, fin=True),
]


@pytest.mark.parametrize("case", [*PIPELINED, *VERSION_1_0, *CLOSING], ids=str)
def test_connections(rig: Rig, case: Case) -> None:
    carry_out(rig, case)


def test_streams_in_http_1_0_are_not_chunked(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(post(STREAM, version=b"1.0"))
        (answer,) = wire.rest()
    assert answer.header("transfer-encoding") is None
    assert answer.header("connection") == "close"
    assert answer.body.startswith(b"data: ")
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_answers_come_in_the_order_of_the_requests(rig: Rig) -> None:
    bodies = [b'{"model": "m", "n": %d}' % (10**n) for n in range(12)]
    with rig.wire() as wire:
        wire.send(b"".join(post(body) for body in bodies))
        assert [wire.answer().json["body_bytes"] for _ in bodies] == [len(body) for body in bodies]


@pytest.mark.parametrize("body", [HELD, HELD_STREAM])
def test_garbage_does_not_corrupt_the_answer_under_way(rig: Rig, body: bytes) -> None:
    with rig.wire() as wire:
        wire.send(post(body))
        rig.wait_until(lambda: len(rig.engine.running) == 1, "the engine works")
        wire.send(b"\x00garbage\r\n\r\n", GOOD)
        time.sleep(0.02)
        rig.ask(rig.engine.release)
        (answer,) = wire.rest()
    check_answer(answer)
    assert answer.status == 200
    rig.check_healthy()


def test_a_bad_body_is_refused_while_an_earlier_answer_is_under_way(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(post(HELD_STREAM))
        wire.until(b"word0")
        wire.send(GOOD + CHUNKED + b"zz\r\n")
        time.sleep(0.02)
        rig.ask(rig.engine.release)
        rest = wire.until(b"0\r\n\r\n")
        assert b"word2" in rest
        assert [answer.status for answer in wire.rest()] == [200]
    rig.check_healthy()


def hang_up_plainly(wire: Wire) -> None:
    wire.close()


def hang_up_rudely(wire: Wire) -> None:
    wire.reset()


def hang_up_by_half(wire: Wire) -> None:
    wire.half_close()


@pytest.mark.parametrize("hang_up", [hang_up_plainly, hang_up_rudely, hang_up_by_half])
@pytest.mark.parametrize(
    "sent",
    [
        post(HELD),
        post(HELD_STREAM),
        post(HELD) + GOOD,
        post(HELD_STREAM) + GOOD,
        post(HELD_STREAM) + GOOD * 20 + GOOD[:50],
        post(HELD_STREAM) + post(b'{"model": "m", "x": "%b"}' % (b"a" * 400_000)),
        PROBE + post(HELD_STREAM) + GOOD,
        post(HELD_STREAM) + b"garbage",
    ],
    ids=["plain", "stream", "pipelined", "pipelined stream", "many", "large", "second", "garbage"],
)
def test_a_hang_up_reaches_the_engine(rig: Rig, sent: bytes, hang_up: object) -> None:
    before = len(rig.engine.seen)
    with rig.wire() as wire:
        wire.send(sent)
        rig.wait_until(lambda: len(rig.engine.running) == 1, "the engine works")
        assert callable(hang_up)
        hang_up(wire)
        rig.wait_until(lambda: not rig.engine.running, "the engine has stopped")
        rig.wait_until(lambda: not rig.in_flight(), "nothing is in flight")
    assert len(rig.engine.seen) == before + 1
    rig.check_healthy()


@pytest.mark.parametrize("request_", [GOOD, CHUNKED + CHUNKS], ids=["length", "chunks"])
def test_an_early_close_at_every_byte(rig: Rig, request_: bytes) -> None:
    before = len(rig.engine.seen)
    for end in range(len(request_)):
        with rig.wire() as wire:
            wire.send(request_[:end])
            wire.half_close()
            assert wire.rest() == []
    assert len(rig.engine.seen) == before
    for end in range(0, len(request_), 7):
        wire = rig.wire()
        wire.send(request_[:end])
        wire.reset()
    rig.wait_until(lambda: not rig.connections(), "no connection is left")
    assert len(rig.engine.seen) == before
    rig.check_healthy()


def test_a_connection_that_sends_no_request_is_closed(rig: Rig) -> None:
    for sent in (b"", b"\r\n"):
        with rig.wire() as wire:
            wire.send(sent)
            assert wire.rest() == []


def test_empty_lines_do_not_keep_a_connection_open(rig: Rig) -> None:
    until = time.monotonic() + PATIENCE_S
    with rig.wire() as wire:
        wire.socket.settimeout(0.2)
        while time.monotonic() < until:
            wire.send(b"\r\n")
            try:
                if not wire.read():
                    return
            except TimeoutError:
                continue
    pytest.fail("the connection is still open")


def test_an_idle_connection_is_closed_after_an_answer(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(GOOD + post(b"{}"))
        assert [answer.status for answer in wire.rest()] == [200, 400]


def test_a_body_dribbled_after_its_refusal_keeps_no_connection(rig: Rig) -> None:
    wire = rig.wire()
    wire.send(CHAT.replace(b"/chat/", b"/nope/") + b"content-length: 1000000\r\n\r\n")
    assert wire.answer().status == 404
    until = time.monotonic() + PATIENCE_S
    while rig.ask(rig.connections):
        assert time.monotonic() < until
        wire.send(b"x")
        time.sleep(0.05)
    wire.close()


def test_a_client_that_never_reads_is_given_up() -> None:
    # The documentation is the longest answer there is; enough of them fill every buffer between the two.
    asked = b"GET /openapi.json HTTP/1.1\r\nhost: edge\r\n"
    with rig_of(timeouts={"idle_s": 0.5}) as rig, contextlib.ExitStack() as stack:
        for sent in (asked + b"\r\n", asked + b"connection: close\r\n\r\n"):
            wire = stack.enter_context(rig.wire(receive_bytes=4096))
            wire.send((asked + b"\r\n") * 60 + sent)
        rig.wait_until(lambda: rig.connections() == 2, "they are connected")
        rig.wait_until(lambda: not rig.connections(), "they have been given up")
        rig.check_healthy()


def test_a_million_keys(rig: Rig) -> None:
    body = b'{"model": "m", ' + b",".join(b'"%d":0' % n for n in range(1_000_000)) + b"}"
    with rig.wire() as wire:
        wire.send(post(body))
        assert wire.answer().json["body_bytes"] == len(body)


def test_oip_goes_through_the_same_edge(rig: Rig) -> None:
    path = b"/v2/models/m/generate"
    with rig.wire() as wire:
        wire.send(post(b'{"text_input": "hi"}', path=path) + post(b"{", path=path))
        first, second = wire.answer(), wire.answer()
    assert first.status == 424  # the engine here does not complete texts
    assert second.status == 422
    assert isinstance(json.loads(second.body)["error"], str)
    assert first.header("x-request-id") != second.header("x-request-id")


def test_slow_bodies_on_many_connections_all_end(rig: Rig) -> None:
    wires = [rig.wire() for _ in range(50)]
    for wire in wires:
        wire.send(CHAT + LENGTH + b"\r\n" + BODY[:-1])
    for wire in wires:
        assert [answer.status for answer in wire.rest()] == [408]
        wire.close()
    rig.check_healthy()
