"""Where a body ends: lengths, chunks, and what tries to have two ends at once."""

import gzip
import hashlib
import json
from collections.abc import Iterator

import pytest

from tests.gateway.edge_case import BODY, CHAT, CHUNKED, CHUNKS, GOOD, LAST, LENGTH, STREAM, Case, carry_out
from tests.gateway.edge_rig import Rig, post, rig_of

LIMIT = 1_000_000


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A gateway with a small limit for bodies, and little patience for slow ones."""
    with rig_of(limits={"body_bytes": LIMIT}, timeouts={"body_s": 0.5}) as running:
        yield running
        running.check_accounts()


def length(value: bytes) -> bytes:
    return CHAT + b"content-length: " + value + b"\r\n\r\n" + BODY


def coding(*lines: bytes, body: bytes = CHUNKS) -> bytes:
    return CHAT + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunks(body: bytes) -> bytes:
    return CHUNKED + body


SIZE = b"%x" % len(BODY)
LENGTHS = [
    Case("no length is no body", (CHAT + b"\r\n",), (400,), stays=True),
    Case("no length, and a body", (CHAT + b"\r\n" + BODY,), (400,)),
    Case("zero", (length(b"0")[: -len(BODY)],), (400,), stays=True),
    Case("leading zeros", (length(b"000%d" % len(BODY)),), (200,), 1, stays=True),
    Case("spaces around", (length(b"  %d \t" % len(BODY)),), (200,), 1, stays=True),
    Case("negative", (length(b"-1"),), (400,)),
    Case("plus", (length(b"+%d" % len(BODY)),), (400,)),
    Case("space inside", (length(b"2 2"),), (400,)),
    Case("hex", (length(b"0x16"),), (400,)),
    Case("float", (length(b"22.0"),), (400,)),
    Case("exponent", (length(b"2e1"),), (400,)),
    Case("underscore", (length(b"2_2"),), (400,)),
    Case("full-width digits", (length(b"\xef\xbc\x92\xef\xbc\x92"),), (400,)),
    Case("empty", (length(b""),), (400,)),
    Case("list", (length(b"22, 22"),), (400,)),
    Case("twice the same", (coding(b"content-length: 22", b"content-length: 22", body=BODY),), (400,)),
    Case("twice, different", (coding(b"content-length: 22", b"content-length: 5", body=BODY),), (400,)),
    Case("over 64 bits", (length(b"184467440737095516160"),), (400,)),
    Case("just under 64 bits", (length(b"18446744073709551615"),), (413,)),
    Case("at the limit", (post(b'{"model": "m"%b}' % (b" " * (LIMIT - 14))),), (200,), 1, stays=True),
    Case("over the limit", (post(b'{"model": "m"%b}' % (b" " * (LIMIT - 13))),), (413,)),
    Case("far over the limit", (post(b" " * 40_000_000),), (413,)),
    Case("longer than its length", (GOOD + b"more",), (200,), 1),
    Case("longer than its length by a request", (GOOD + GOOD,), (200, 200), 2, stays=True),
    Case("shorter than its length, then silence", (GOOD[:-1],), (408,)),
    Case("shorter than its length, then closed", (GOOD[:-1],), (), fin=True),
    Case("byte by byte", tuple(GOOD[n : n + 1] for n in range(len(GOOD))), (200,), 1, stays=True),
    Case("a body that nobody reads", (post(b" " * 3_000_000, path=b"/v1/nope"),), (404,)),
    Case("a body that nobody reads and does not come", (post(b" " * 10, path=b"/v1/nope")[:-1],), (404,)),
    Case(
        "a body on a GET", (b"GET /healthz HTTP/1.1\r\nhost: edge\r\n" + LENGTH + b"\r\n" + BODY,), (200,), stays=True
    ),
]
CODINGS = [
    Case("with a length", (coding(LENGTH[:-2], b"transfer-encoding: chunked"),), (400,)),
    Case("with a length after it", (coding(b"transfer-encoding: chunked", LENGTH[:-2]),), (400,)),
    Case("identity", (coding(b"transfer-encoding: identity"),), (400,)),
    Case("identity with a length", (coding(b"transfer-encoding: identity", LENGTH[:-2], body=BODY),), (400,)),
    Case("gzip", (coding(b"transfer-encoding: gzip"),), (400,)),
    Case("gzip, chunked", (coding(b"transfer-encoding: gzip, chunked"),), (400,)),
    Case("gzip, then chunked", (coding(b"transfer-encoding: gzip", b"transfer-encoding: chunked"),), (400,)),
    Case("chunked, identity", (coding(b"transfer-encoding: chunked, identity"),), (400,)),
    Case("chunked twice", (coding(b"transfer-encoding: chunked, chunked"),), (400,)),
    Case("chunked on two lines", (coding(b"transfer-encoding: chunked", b"transfer-encoding: chunked"),), (400,)),
    Case("xchunked", (coding(b"transfer-encoding: xchunked"),), (400,)),
    Case("chunkedx", (coding(b"transfer-encoding: chunkedx"),), (400,)),
    Case("quoted", (coding(b'transfer-encoding: "chunked"'),), (400,)),
    Case("a parameter", (coding(b"transfer-encoding: chunked;q=1"),), (400,)),
    Case("capitals", (coding(b"Transfer-Encoding: CHUNKED"),), (200,), 1, stays=True),
    Case("space after", (coding(b"transfer-encoding: chunked "),), (200,), 1, stays=True),
    Case("tab before", (coding(b"transfer-encoding:\tchunked"),), (200,), 1, stays=True),
    Case("tab after", (coding(b"transfer-encoding: chunked\t"),), (400,)),
    Case("vertical tab before", (coding(b"transfer-encoding:\x0bchunked"),), (400,)),
    Case("space before the colon", (coding(b"transfer-encoding : chunked"),), (400,)),
    Case(
        "underscore in the name",
        (coding(b"transfer_encoding: chunked", LENGTH[:-2], body=BODY),),
        (200,),
        1,
        stays=True,
    ),
    Case("empty", (coding(b"transfer-encoding:"),), (400,)),
    Case("folded", (coding(b"transfer-encoding:\r\n chunked"),), (400,)),
    Case("in HTTP/1.0", (CHUNKED.replace(b"1.1", b"1.0") + CHUNKS,), (200,), 1),
]
CHUNK_FRAMES = [
    Case("one chunk", (chunks(CHUNKS),), (200,), 1, stays=True),
    Case("a chunk a byte", (chunks(b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n"),), (200,), 1, stays=True),
    Case("byte by byte", tuple(chunks(CHUNKS)[n : n + 1] for n in range(len(chunks(CHUNKS)))), (200,), 1, stays=True),
    Case("size with zeros", (chunks(b"000" + CHUNKS),), (200,), 1, stays=True),
    Case("an extension", (chunks(CHUNKS.replace(SIZE, SIZE + b";a=b", 1)),), (200,), 1, stays=True),
    Case("a quoted extension", (chunks(CHUNKS.replace(SIZE, SIZE + b';a="b"', 1)),), (200,), 1, stays=True),
    Case("an extension with a bare LF", (chunks(CHUNKS.replace(SIZE, SIZE + b";a\n", 1)),), (400,)),
    Case("an extension with a NUL", (chunks(CHUNKS.replace(SIZE, SIZE + b";\x00", 1)),), (400,)),
    Case("negative size", (chunks(b"-1\r\n" + BODY),), (400,)),
    Case("plus size", (chunks(b"+" + CHUNKS),), (400,)),
    Case("0x size", (chunks(b"0x" + CHUNKS),), (400,)),
    Case("space before the size", (chunks(b" " + CHUNKS),), (400,)),
    Case("space after the size", (chunks(CHUNKS.replace(SIZE, SIZE + b" ", 1)),), (400,)),
    Case("no size", (chunks(b"\r\n" + BODY),), (400,)),
    Case("a size that overflows", (chunks(b"f" * 17 + b"\r\n" + BODY),), (400,)),
    Case("a huge size", (chunks(b"7" + b"f" * 15 + b"\r\n" + BODY),), (408,)),
    Case("many digits", (chunks(b"0" * 5000 + CHUNKS),), (200,), 1, stays=True),
    Case("junk after a chunk", (chunks(b"%b\r\n%bjunk\r\n0\r\n\r\n" % (SIZE, BODY)),), (400,)),
    Case("bare LF after the size", (chunks(b"%b\n%b\r\n0\r\n\r\n" % (SIZE, BODY)),), (400,)),
    Case("bare CR after the size", (chunks(b"%b\r%b\r\n0\r\n\r\n" % (SIZE, BODY)),), (400,)),
    Case("bare LF after a chunk", (chunks(b"%b\r\n%b\n0\r\n\r\n" % (SIZE, BODY)),), (400,)),
    Case("bare LF at the end", (chunks(b"%b\r\n%b\r\n0\n\n" % (SIZE, BODY)),), (400,)),
    Case("a size too small", (chunks(b"3\r\n%b\r\n0\r\n\r\n" % BODY),), (400,)),
    Case("no last chunk", (chunks(CHUNKS[:-5]),), (408,)),
    Case("no last line", (chunks(CHUNKS[:-2]),), (408,)),
    Case("no last chunk, then closed", (chunks(CHUNKS[:-5]),), (), fin=True),
    Case("only the last chunk", (chunks(b"0\r\n\r\n"),), (400,), stays=True),
    Case("a request after it", (chunks(CHUNKS) + GOOD,), (200, 200), 2, stays=True),
    Case("over the limit", (chunks(b"%x\r\n%b\r\n" % (LIMIT + 1, b" " * (LIMIT + 1))),), (413,)),
    Case(
        "over the limit for ever",
        tuple(chunks(b"") if not n else b"800\r\n%b\r\n" % bytes(2048) for n in range(2000)),
        (413,),
    ),
    Case("a trailer", (chunks(CHUNKS[:-2] + b"x-a: b\r\n\r\n"),), (200,), 1, stays=True),
    Case("a trailer that frames", (chunks(CHUNKS[:-2] + b"content-length: 3\r\n\r\n"),), (400,)),
    Case("a trailer that frames anew", (chunks(CHUNKS[:-2] + b"transfer-encoding: chunked\r\n\r\n"),), (400,)),
    Case("a bad trailer", (chunks(CHUNKS[:-2] + b"x y: b\r\n\r\n"),), (400,)),
]
UPGRADES = [
    Case(
        f"{protocol} {name}",
        tuple(r.replace(b"\r\n", b"\r\n" + ask, 1) for r in requests),
        statuses,
        reaches,
        stays=True,
    )
    for protocol, ask in (
        ("h2c", b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP\r\n"),
        ("websocket", b"connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"),
    )
    for name, requests, statuses, reaches in (
        ("with a body", (GOOD,), (200,), 1),
        ("with chunks", (chunks(CHUNKS),), (200,), 1),
        ("with a stream", (post(STREAM),), (200,), 1),
        ("without a body", (b"GET /healthz HTTP/1.1\r\nhost: edge\r\n\r\n",), (200,), 0),
        ("on an inference path", (b"GET /v1/chat/completions HTTP/1.1\r\nhost: edge\r\n\r\n",), (405,), 0),
        ("and another request", (GOOD + GOOD,), (200, 200), 2),
        ("twice", (GOOD, chunks(CHUNKS)), (200, 200), 2),
    )
]
UPGRADES_CUT = [
    Case("upgrade, a body in pieces", (UPGRADES[0].sent[0][:-7], BODY[-7:]), (200,), 1, stays=True),
    Case("upgrade, half a body", (UPGRADES[0].sent[0][:-7],), (408,)),
    Case("upgrade, a bad chunk", (UPGRADES[1].sent[0].replace(SIZE + b"\r\n", b"zz\r\n", 1),), (400,)),
    Case("upgrade, two lengths", (UPGRADES[0].sent[0].replace(LENGTH, LENGTH * 2),), (400,)),
]
EXPECTATIONS = [
    Case(
        "with the body at once", (CHAT + b"expect: 100-continue\r\n" + LENGTH + b"\r\n" + BODY,), (200,), 1, stays=True
    ),
    Case("too large", (CHAT + b"expect: 100-continue\r\ncontent-length: 99999999\r\n\r\n",), (413,)),
    Case("no such path", (post(BODY, b"expect: 100-continue", path=b"/v1/nope")[: -len(BODY)],), (404,)),
    Case("compressed", (CHAT + b"expect: 100-continue\r\ncontent-encoding: gzip\r\n" + LENGTH + b"\r\n",), (400,)),
    Case("something else", (CHAT + b"expect: the-unexpected\r\n" + LENGTH + b"\r\n", BODY), (200,), 1, stays=True),
    Case("in HTTP/1.0", (post(BODY, b"expect: 100-continue", version=b"1.0")[:-1], BODY[-1:]), (200,), 1),
    Case("and no body", (CHAT + b"expect: 100-continue\r\n" + LENGTH + b"\r\n",), (100, 408)),
]
JSON = [
    Case(name, (post(body),), (status,), int(status == 200), stays=True)
    for name, body, status in (
        ("not UTF-8", b'{"model": "m", "x": "\xff\xfe"}', 200),
        ("a model name that is not UTF-8", b'{"model": "\xff"}', 400),
        ("UTF-16", '{"model": "m"}'.encode("utf-16"), 400),
        ("a byte order mark", b'\xef\xbb\xbf{"model": "m"}', 400),
        ("deep", b'{"model": "m", "x": ' + b"[" * 400 + b"]" * 400 + b"}", 200),
        ("too deep", b'{"model": "m", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        ("deep where it matters", b"[" * 100_000, 400),
        ("many keys", b'{"model": "m", ' + b",".join(b'"%d":0' % n for n in range(80_000)) + b"}", 200),
        ("NaN", b'{"model": "m", "x": NaN}', 400),
        ("Infinity", b'{"model": "m", "x": -Infinity}', 400),
        ("a huge number", b'{"model": "m", "x": 1e999999}', 200),
        ("a huge limit", b'{"model": "m", "max_tokens": 1%b}' % (b"0" * 5000), 400),
        ("the same key twice", b'{"model": "nope", "model": "m"}', 200),
        ("the same key twice, the other way", b'{"model": "m", "model": "nope"}', 404),
        ("a lone surrogate", b'{"model": "m", "x": "\\ud800"}', 400),
        ("a lone surrogate as the model", b'{"model": "\\ud800"}', 400),
        ("a NUL in the model", b'{"model": "m\\u0000"}', 404),
        ("a long model", b'{"model": "%b"}' % (b"m" * 100_000), 404),
        ("empty", b"", 400),
        ("nothing but space", b" \r\n\t ", 400),
        ("a list", b'[{"model": "m"}]', 400),
        ("a string", b'"m"', 400),
        ("null", b"null", 400),
        ("cut short", b'{"model": "m"', 400),
        ("two documents", b'{"model": "m"}{"model": "m"}', 400),
        ("a comment", b'{"model": "m" /* x */}', 400),
        ("single quotes", b"{'model': 'm'}", 400),
        ("a form", b"model=m&n=1", 400),
        ("NULs", bytes(1000), 400),
    )
]
ENCODED = [
    Case("gzip", (post(gzip.compress(BODY), b"content-encoding: gzip"),), (400,), stays=True),
    Case("gzip that is none", (post(BODY, b"content-encoding: gzip"),), (400,), stays=True),
    Case("gzip that does not say so", (post(gzip.compress(BODY)),), (400,), stays=True),
    Case("identity", (post(BODY, b"content-encoding: identity"),), (200,), 1, stays=True),
    Case("another type", (post(BODY, b"content-type: text/plain"),), (200,), 1, stays=True),
]


@pytest.mark.parametrize("case", [*LENGTHS, *CODINGS, *CHUNK_FRAMES], ids=str)
def test_framing(rig: Rig, case: Case) -> None:
    carry_out(rig, case)


@pytest.mark.parametrize("case", [*UPGRADES, *UPGRADES_CUT, *EXPECTATIONS], ids=str)
def test_upgrades_and_expectations(rig: Rig, case: Case) -> None:
    carry_out(rig, case)


@pytest.mark.parametrize("case", [*JSON, *ENCODED], ids=str)
def test_contents(rig: Rig, case: Case) -> None:
    carry_out(rig, case)


def test_the_engine_gets_the_bytes_of_the_body_and_no_others(rig: Rig) -> None:
    body = json.dumps({"model": "m", "x": "\r\n\r\nPOST /v1/embeddings HTTP/1.1\r\ncontent-length: 0\r\n\r\n"}).encode()
    for sent in (post(body), CHUNKED + b"".join(b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n"):
        with rig.wire() as wire:
            wire.send(sent)
            assert wire.answer().json == {"body_bytes": len(body), "body_sha256": hashlib.sha256(body).hexdigest()}
        assert rig.engine.seen[-1].body == body


def test_trailers_are_not_headers(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(CHUNKED + CHUNKS[:-2] + b"x-request-id: forged\r\nauthorization: Bearer x\r\nx-a: b\r\n\r\n")
        assert wire.answer().header("x-request-id") != "forged"
    assert b"forged" not in rig.engine.seen[-1].head
    assert b"x-a" not in rig.engine.seen[-1].head


def test_an_early_refusal_reaches_a_client_that_is_still_sending(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(CHAT + b"content-length: 30000000\r\n\r\n", *(bytes(1_000_000) for _ in range(30)))
        assert wire.answer().status == 413
        assert wire.rest() == []


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (CHAT + b"expect: 100-continue\r\n" + LENGTH + b"\r\n", BODY),
        (CHAT + b"Expect: 100-Continue\r\n" + LENGTH + b"\r\n", BODY),
        (CHUNKED[:-2] + b"expect: 100-continue\r\n\r\n", CHUNKS),
    ],
)
def test_an_expected_100_comes_before_the_body_and_once(rig: Rig, head: bytes, body: bytes) -> None:
    with rig.wire() as wire:
        for _ in range(2):
            wire.send(head)
            assert wire.answer().status == 100
            wire.send(body[:5], body[5:])
            assert wire.answer().status == 200
        wire.send(LAST)
        assert [answer.status for answer in wire.rest()] == [200]
    rig.check_healthy()


def test_after_a_refused_expectation_the_next_bytes_are_not_taken_for_the_body(rig: Rig) -> None:
    with rig.wire() as wire:
        wire.send(CHAT + b"expect: 100-continue\r\ncontent-length: 99999999\r\n\r\n")
        assert wire.answer().header("connection") == "close"
        wire.send(LAST)
        assert wire.rest() == []
