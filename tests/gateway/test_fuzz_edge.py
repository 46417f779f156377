"""Requests with anything done to them: the gateway answers or closes, and the engine sees only what was meant.

Two parsers that are not the gateway's watch it. What it writes is read by h11. And h11 reads what was sent: the engine
must not have been given a body that h11 does not see in the same place, which is what request smuggling comes down to.
"""

import itertools
import re
import socket
from collections.abc import Iterator

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.edge_case import BODY, CHAT, CHUNKED, CHUNKS, GOOD, LAST, LENGTH, STREAM, check_answer
from tests.gateway.edge_rig import Rig, post, rig_of
from tests.gateway.edge_wire import LIMIT_S, Wire, read_answers

QUIET_S = 0.03  # after so long without a byte the gateway is taken to wait for more
EXAMPLES = 600

SEEDS = [
    GOOD,
    LAST,
    post(STREAM),
    post(BODY, path=b"/v1/completions?x=1"),
    post(BODY, version=b"1.0"),
    CHUNKED + CHUNKS,
    CHUNKED
    + b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:]))
    + b"0\r\nx-t: 1\r\n\r\n",
    CHAT + b"expect: 100-continue\r\n" + LENGTH + b"\r\n" + BODY,
    CHAT + b"connection: upgrade\r\nupgrade: h2c\r\n" + LENGTH + b"\r\n" + BODY,
    CHAT.replace(b"/v1/chat/completions", b"http://edge/v1/embeddings") + LENGTH + b"\r\n" + BODY,
    b"GET /v1/models HTTP/1.1\r\nhost: edge\r\n\r\n",
    post(b"{}", b"x-request-id: a", b"authorization: Bearer b"),
]
# RFC 9112, 2.2: empty lines before a request are to be ignored. h11 does not.
EMPTY_LINES = re.compile(rb"\A(?:\r\n|\n|\r)+")
# What smuggling is made of.
SPLICES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"content-length: 0\r\n",
    b"content-length: 5\r\n",
    b"content-length: 22\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\n",
    b"expect: 100-continue\r\n",
    b"host: other\r\n",
    b" folded\r\n",
    b"-1",
    b"ffffffffffffffff",
    b"HTTP/1.0",
    b"\xff\xfe",
    b"GET /healthz HTTP/1.1\r\nhost: edge\r\n\r\n",
]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with rig_of(timeouts={"body_s": 5.0}) as running:
        yield running
        running.check_healthy()
        running.check_accounts()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A few requests one after the other, with a few accidents."""
    raw = bytearray(b"".join(draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        to = draw(st.integers(at, min(len(raw), at + 60)))
        accident = draw(st.sampled_from(("flip", "splice", "cut", "repeat", "end", "bytes", "swap")))
        if accident == "flip" and at < len(raw):
            raw[at] ^= 1 << draw(st.integers(0, 7))
        elif accident == "splice":
            raw[at:at] = draw(st.sampled_from(SPLICES))
        elif accident == "cut":
            del raw[at:to]
        elif accident == "repeat":
            raw[at:at] = raw[at:to]
        elif accident == "end":
            del raw[at:]
        elif accident == "bytes":
            raw[at:to] = draw(st.binary(max_size=20))
        else:
            line = raw.split(b"\r\n")
            one, other = draw(st.integers(0, len(line) - 1)), draw(st.integers(0, len(line) - 1))
            line[one], line[other] = line[other], line[one]
            raw = bytearray(b"\r\n".join(line))
    return bytes(raw)


def packets(raw: bytes, cuts: list[int]) -> list[bytes]:
    """Pure. `raw` in pieces."""
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[a:b] for a, b in itertools.pairwise(edges) if a < b]


def until_quiet(wire: Wire) -> None:
    """Read until the gateway closes, or says no more; then hang up, and read to the end."""
    wire.socket.settimeout(QUIET_S)
    try:
        while wire.read():
            pass
    except TimeoutError:
        wire.socket.settimeout(LIMIT_S)
        wire.half_close()
        while wire.read():
            pass


def bodies_by_h11(raw: bytes) -> list[bytes]:
    """Pure. The bodies of the whole requests in `raw`, up to the first byte that h11 does not accept."""
    bodies: list[bytes] = []
    while raw := EMPTY_LINES.sub(b"", raw):
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        parser.receive_data(raw)
        body = bytearray()
        try:
            while True:
                event = parser.next_event()
                if isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif event is h11.NEED_DATA or event is h11.PAUSED:
                    return bodies
        except h11.RemoteProtocolError:
            return bodies
        bodies.append(bytes(body))
        raw = parser.trailing_data[0]
    return bodies


def check(rig: Rig, sent: list[bytes]) -> None:
    before = len(rig.engine.seen)
    with rig.wire() as wire:
        wire.send(*sent)
        until_quiet(wire)
        answers = read_answers(wire.raw, ("POST",) * 100)
    for answer in answers[:-1]:
        check_answer(answer)
    if answers and answers[-1].whole:  # else it was under way when we hung up
        check_answer(answers[-1])
    rig.wait_until(lambda: not rig.in_flight() and not rig.engine.running, "requests in flight are over")
    assert rig.engine.violations == []
    assert rig.complaints.texts == []
    assert rig.surprises == []
    expected = iter(bodies_by_h11(b"".join(sent)))
    for seen in rig.engine.seen[before:]:
        body = seen.body.replace(b'"stream_options":{"include_usage":true},', b"")
        assert any(body == other for other in expected), f"the engine was given {body!r}, which nobody sent"


@given(raw=mutated(), cuts=st.lists(st.integers(0, 2000), max_size=6))
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_accidents(rig: Rig, raw: bytes, cuts: list[int]) -> None:
    check(rig, packets(raw, cuts))


@given(raw=st.binary(min_size=1, max_size=400))
@settings(max_examples=60, derandomize=True, database=None, deadline=None)
def test_noise(rig: Rig, raw: bytes) -> None:
    check(rig, [raw])


@given(count=st.integers(1, 20), cuts=st.lists(st.integers(0, 20_000), max_size=30), data=st.data())
@settings(max_examples=60, derandomize=True, database=None, deadline=None)
def test_good_requests_in_any_packets_are_all_answered_in_order(
    rig: Rig, count: int, cuts: list[int], data: st.DataObject
) -> None:
    kinds = data.draw(st.lists(st.sampled_from(("whole", "stream", "chunked")), min_size=count, max_size=count))
    sizes = data.draw(st.lists(st.integers(0, 3000), min_size=count, max_size=count))
    requests = []
    for kind, size in zip(kinds, sizes, strict=True):
        body = b'{"model": "m", "stream": %b, "x": "%b"}' % (b"true" if kind == "stream" else b"false", b"a" * size)
        frames = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        requests.append((body, CHUNKED + frames if kind == "chunked" else post(body)))
    with rig.wire() as wire:
        wire.send(*packets(b"".join(raw for _, raw in requests), cuts))
        for (body, _), kind in zip(requests, kinds, strict=True):
            answer = wire.answer()
            assert answer.status == 200
            if kind == "stream":
                assert answer.body.endswith(b"data: [DONE]\n\n")
            else:
                assert answer.json["body_bytes"] == len(body)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == []
