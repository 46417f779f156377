"""Request lines and headers, right, odd and wrong, over raw sockets."""

import time
from collections.abc import Iterator

import pytest

from tests.gateway.edge_case import BODY, CHAT, GOOD, LENGTH, Case, carry_out, get, with_header
from tests.gateway.edge_rig import Rig, post, rig_of

HEAD_BYTES = 16_384


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A gateway with a small limit for heads, and little patience for slow ones."""
    with rig_of(limits={"header_bytes": HEAD_BYTES}, timeouts={"body_s": 0.5}) as running:
        yield running
        running.check_accounts()


def request_line(line: bytes) -> bytes:
    return line + b"\r\nhost: edge\r\n" + LENGTH + b"\r\n" + BODY


REQUEST_LINES = [
    Case("no HTTP at all", (b"hello\r\n\r\n",), (400,)),
    Case("a TLS greeting", (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),), (400,)),
    Case("a SOCKS greeting", (b"\x05\x01\x00",), (400,)),
    Case("NULs", (bytes(64),), (400,)),
    Case("an SSH greeting", (b"SSH-2.0-OpenSSH_9.6\r\n",), (400,)),
    Case("HTTP/2's preface", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),), (400,)),
    Case("no version", (request_line(b"POST /v1/chat/completions"),), (400,)),
    Case("HTTP/0.9, which has no head to end", (b"GET /healthz\r\n",), (408,)),
    Case("version 0.9", (request_line(b"POST /v1/chat/completions HTTP/0.9"),), (400,)),
    Case("version 1.2", (request_line(b"POST /v1/chat/completions HTTP/1.2"),), (400,)),
    Case("version 2.0", (request_line(b"POST /v1/chat/completions HTTP/2.0"),), (400,)),
    Case("version 11", (request_line(b"POST /v1/chat/completions HTTP/11.1"),), (400,)),
    Case("version in lower case", (request_line(b"POST /v1/chat/completions http/1.1"),), (400,)),
    Case("space after the version", (request_line(b"POST /v1/chat/completions HTTP/1.1 "),), (400,)),
    Case("two spaces", (request_line(b"POST  /v1/chat/completions HTTP/1.1"),), (200,), reaches=1, stays=True),
    Case("a tab for a space", (request_line(b"POST\t/v1/chat/completions HTTP/1.1"),), (400,)),
    Case("space in the target", (request_line(b"POST /v1/chat /completions HTTP/1.1"),), (400,)),
    Case("tab in the query", (request_line(b"POST /v1/chat/completions?a\tb HTTP/1.1"),), (400,)),
    Case("NUL in the target", (request_line(b"POST /v1/\x00chat HTTP/1.1"),), (400,)),
    Case("bare CR in the target", (request_line(b"POST /v1/\rchat HTTP/1.1"),), (400,)),
    Case("bare LF ends the line", (b"POST /v1/chat/completions HTTP/1.1\nhost: edge\r\n\r\n",), (400,)),
    Case("non-ASCII in the path", (request_line("POST /v1/chät HTTP/1.1".encode()),), (400,)),
    Case("non-ASCII in the query", (request_line("POST /v1/chat/completions?ä HTTP/1.1".encode()),), (400,)),
    Case("no slash", (request_line(b"POST v1/chat/completions HTTP/1.1"),), (400,)),
    Case("empty lines first", (b"\r\n\r\n" + GOOD,), (200,), reaches=1, stays=True),
    Case("method in lower case", (request_line(b"post /v1/chat/completions HTTP/1.1"),), (400,)),
    Case("unknown method", (request_line(b"FROB /v1/chat/completions HTTP/1.1"),), (400,)),
    Case("control byte in the method", (request_line(b"PO\x01ST /v1/chat/completions HTTP/1.1"),), (400,)),
]
TARGETS = [
    Case("absolute form", (request_line(b"POST http://edge/v1/chat/completions HTTP/1.1"),), (200,), 1, stays=True),
    Case("absolute form without a path", (request_line(b"POST http://edge HTTP/1.1"),), (400,)),
    Case("OPTIONS *", (get(b"*", method=b"OPTIONS"),), (404,)),
    Case("CONNECT", (b"CONNECT edge:443 HTTP/1.1\r\nhost: edge\r\n\r\n",), (400,)),
    Case("CONNECT with a path", (get(b"/v1/models", method=b"CONNECT"),), (405,)),
    Case("a query", (post(BODY, path=b"/v1/chat/completions?api-version=1"),), (200,), 1, stays=True),
    Case("a fragment", (post(BODY, path=b"/v1/chat/completions#x"),), (200,), 1, stays=True),
    Case("percent-encoded", (post(BODY, path=b"/v1/chat%2Fcompletions"),), (200,), 1, stays=True),
    Case("percent-encoded NUL", (post(BODY, path=b"/v1/%00"),), (404,), stays=True),
    Case("percent-encoded line", (post(BODY, path=b"/v1/%0d%0aset-cookie:x"),), (404,), stays=True),
    Case("percent-encoded, not UTF-8", (post(BODY, path=b"/v1/%ff%fe"),), (404,), stays=True),
    Case("percent without digits", (post(BODY, path=b"/v1/%zz%"),), (404,), stays=True),
    Case("two slashes", (post(BODY, path=b"//v1/chat/completions"),), (404,), stays=True),
    Case("slash at the end", (post(BODY, path=b"/v1/chat/completions/"),), (404,), stays=True),
    Case("dots", (post(BODY, path=b"/v1/../v1/chat/completions"),), (404,), stays=True),
    Case("HEAD", (get(b"/v1/chat/completions", method=b"HEAD"),), (405,), methods=("HEAD",)),
    Case("GET", (get(b"/v1/chat/completions"),), (405,)),
    Case("PUT", (get(b"/v1/chat/completions", method=b"PUT"),), (405,)),
    Case("DELETE", (get(b"/v1/chat/completions", method=b"DELETE"),), (405,)),
    Case("TRACE", (get(b"/v1/chat/completions", method=b"TRACE"),), (405,)),
    Case("HEAD of a probe", (get(b"/healthz", method=b"HEAD"),), (200,), methods=("HEAD",)),
    Case("OIP path of no model", (post(BODY, path=b"/v2/models//generate"),), (404,), stays=True),
]
HEADERS = [
    Case("NUL in a value", (with_header(b"x: a\x00b"),), (400,)),
    Case("control byte in a value", (with_header(b"x: a\x01b"),), (400,)),
    Case("DEL in a value", (with_header(b"x: a\x7fb"),), (400,)),
    Case("tab in a value", (with_header(b"x: a\tb"),), (200,), 1, stays=True),
    Case("bytes over 0x7f in a value", (with_header("x: ä".encode()),), (200,), 1, stays=True),
    Case("empty value", (with_header(b"x:"),), (200,), 1, stays=True),
    Case("control byte in a name", (with_header(b"x\x01: a"),), (400,)),
    Case("byte over 0x7f in a name", (with_header(b"x\xe4: a"),), (400,)),
    Case("space in a name", (with_header(b"x y: a"),), (400,)),
    Case("space before the colon", (with_header(b"x : a"),), (400,)),
    Case("empty name", (with_header(b": a"),), (400,)),
    Case("no colon", (with_header(b"just words"),), (400,)),
    Case("folded line", (with_header(b"x: a\r\n b"),), (400,)),
    Case("folded first line", (CHAT[:-2] + b"\r\n x: y\r\n\r\n",), (400,)),
    Case("bare LF in a header", (with_header(b"x: a\ny: b"),), (400,)),
    Case("bare LF at the end", (CHAT + LENGTH + b"\n" + BODY,), (400,)),
    Case("bare CR in a header", (with_header(b"x: a\rb"),), (400,)),
    Case("no Host", (GOOD.replace(b"host: edge\r\n", b""),), (400,)),
    Case("no Host in HTTP/1.0", (b"GET /healthz HTTP/1.0\r\n\r\n",), (200,)),
    Case("two Hosts", (with_header(b"host: other"),), (400,)),
    Case("two equal Hosts", (with_header(b"host: edge"),), (400,)),
    Case("two Hosts in HTTP/1.0", (b"GET /healthz HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n",), (400,)),
    Case("empty Host", (GOOD.replace(b"host: edge", b"host:"),), (200,), 1, stays=True),
    Case("Host that is none", (GOOD.replace(b"host: edge", b"host: a/b@[::c"),), (200,), 1, stays=True),
    Case("Host that is none, elsewhere", (get(b"/v1/models").replace(b"edge", b"a/b@[::c"),), (200,)),
    Case("odd request id", (with_header(b"x-request-id: \xff\xfe"),), (200,), 1, stays=True),
    Case("two request ids", (with_header(b"x-request-id: a", b"x-request-id: b"),), (200,), 1, stays=True),
    Case("odd traceparent", (with_header(b"traceparent: \xff, 00-0-0"),), (200,), 1, stays=True),
    Case("odd Authorization", (with_header(b"authorization: \xff"),), (200,), 1, stays=True),
    Case(
        "Connection names headers",
        (with_header(b"connection: host, x, content-length", b"x: y"),),
        (200,),
        1,
        stays=True,
    ),
    Case("hop-by-hop headers", (with_header(b"te: trailers", b"trailer: x", b"keep-alive: 5"),), (200,), 1, stays=True),
]
SIZES = [
    Case("long target", (post(BODY, path=b"/v1/chat/completions?" + b"a" * 15_000),), (200,), 1, stays=True),
    Case("too long a target", (post(BODY, path=b"/v1/chat/completions?" + b"a" * HEAD_BYTES),), (431,)),
    Case("too long a header", (with_header(b"x: " + b"a" * HEAD_BYTES),), (431,)),
    Case("far too long a header", (with_header(b"x: " + b"a" * 1_000_000),), (431,)),
    Case("too long a name", (with_header(b"a" * HEAD_BYTES + b": x"),), (431,)),
    Case("a thousand headers", (with_header(*(b"h%d: x" % n for n in range(1000))),), (200,), 1, stays=True),
    Case("ten thousand headers", (with_header(*(b"a: b" for _ in range(10_000))),), (431,)),
    Case("endless header", tuple(b"a" * 1000 for _ in range(20)), (400,)),
    Case("endless header, dribbled", (CHAT, b"x: ", *(b"a" * 1000 for _ in range(400))), (431,)),
    Case("endless headers, dribbled", (CHAT, *(b"x%d: %b\r\n" % (n, b"a" * 500) for n in range(40))), (431,)),
    Case("a long body is no head", (post(b'{"model": "m", "x": "%b"}' % (b"a" * 300_000)),), (200,), 1, stays=True),
    Case(
        "a long body and a next head in pieces",
        (post(b'{"model": "m", "x": "%b"}' % (b"a" * 40_000)) + GOOD[:30], GOOD[30:]),
        (200, 200),
        2,
        stays=True,
    ),
]
SLOW = [
    Case("head that is never finished", (GOOD[:40],), (408,)),
    Case("request line that is never finished", (b"PO",), (408,)),
    Case("second head that is never finished", (GOOD, GOOD[:40]), (200, 408), 1),
]


@pytest.mark.parametrize("case", [*REQUEST_LINES, *TARGETS, *HEADERS, *SIZES, *SLOW], ids=str)
def test_heads(rig: Rig, case: Case) -> None:
    carry_out(rig, case)


def test_a_head_may_come_byte_by_byte(rig: Rig) -> None:
    carry_out(rig, Case("", tuple(GOOD[n : n + 1] for n in range(len(GOOD))), (200,), 1, stays=True))


def test_the_limit_is_exact_in_one_read_and_in_many(rig: Rig) -> None:
    def of(size: int) -> bytes:
        bare = len(b"/v1/chat/completions") + sum(
            len(line) + 2 for line in (b"host: edge", b"content-length: %d" % len(BODY), b"x: ")
        )
        return with_header(b"x: " + b"a" * (size - bare))

    for size, status in ((HEAD_BYTES, 200), (HEAD_BYTES + 1, 431)):
        with rig.wire() as wire:
            wire.send(of(size))
            assert wire.answer().status == status
        with rig.wire() as wire:
            wire.send(of(size)[:100], of(size)[100:9000], of(size)[9000:])
            assert wire.answer().status == status


def test_a_head_is_not_slow_while_the_gateway_does_not_read_it(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(post(b'{"model": "m", "hold": true}'))
        rig.wait_until(lambda: len(rig.engine.running) == 1, "the engine works")
        wire.send(GOOD + GOOD[:40])  # a whole request that has to wait stops the reading
        time.sleep(2.0)  # long enough for a head to be overdue
        rig.ask(rig.engine.release)
        wire.send(GOOD[40:])
        assert [wire.answer().status for _ in range(3)] == [200, 200, 200]


def test_a_slow_head_does_not_cost_the_requests_before_it_their_answers(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(post(b'{"model": "m", "hold": true}') + GOOD[:40])
        time.sleep(2.0)  # long enough for a head to be overdue
        rig.ask(rig.engine.release)
        (answer,) = wire.rest()
    assert answer.status == 200
    assert answer.header("connection") == "close"
    rig.check_healthy()


def test_a_refusal_says_what_is_wrong(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(with_header(b"host: other"))
        (answer,) = wire.rest()
    assert answer.json["error"]["code"] == "bad_request"
    assert "2 Host headers" in answer.json["error"]["message"]
    assert answer.header("connection") == "close"
    assert (answer.header("x-request-id") or "").startswith("req-")


@pytest.mark.parametrize(
    "sent",
    [get(b"/healthz"), get(b"/nope"), get(b"/v1/models"), get(b"/metrics"), b"nonsense\r\n\r\n", GOOD],
)
def test_every_answer_has_a_request_id_of_its_own(rig: Rig, sent: bytes) -> None:
    ids = []
    for _ in range(2):
        with rig.wire() as wire:
            wire.send(sent)
            ids.append(wire.answer().header("x-request-id"))
    assert all(ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize("path", [b"/healthz", b"/nope", b"/v1/models/x"])
def test_a_callers_request_id_is_returned_everywhere(rig: Rig, path: bytes) -> None:
    with rig.wire() as wire:
        wire.send(get(path, b"x-request-id: mine-1"))
        assert wire.answer().header("x-request-id") == "mine-1"


def test_a_request_id_unfit_for_a_header_is_replaced(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(get(b"/healthz", b"x-request-id: \xffmine"))
        assert (wire.answer().header("x-request-id") or "").startswith("req-")
