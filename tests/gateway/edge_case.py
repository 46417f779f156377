"""One raw conversation with the gateway, and what may come of it."""

from dataclasses import dataclass

from tests.gateway.edge_rig import Rig
from tests.gateway.edge_wire import Answer

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: edge\r\n"
BODY = b'{"model": "m", "n": 1}'
STREAM = b'{"model": "m", "stream": true}'
LENGTH = b"content-length: %d\r\n" % len(BODY)
GOOD = CHAT + LENGTH + b"\r\n" + BODY
LAST = CHAT + b"connection: close\r\n" + LENGTH + b"\r\n" + BODY
CHUNKED = CHAT + b"transfer-encoding: chunked\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@dataclass(frozen=True, slots=True)
class Case:
    """Send `sent`, each part in a packet of its own, then FIN if `fin`; the answers must have these statuses, in order,
    and then the gateway must have closed, unless `stays`: then it must go on to answer another request.

    `reaches`: how many of the requests may get to the engine.
    """

    name: str
    sent: tuple[bytes, ...]
    statuses: tuple[int, ...]
    reaches: int = 0
    stays: bool = False
    fin: bool = False
    methods: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def carry_out(rig: Rig, case: Case) -> None:
    """Run the case and check everything there is to check."""
    before = len(rig.engine.seen)
    with rig.wire() as wire:
        wire.send(*case.sent)
        if case.fin:
            wire.half_close()
        if case.stays:
            answers = [wire.answer(*case.methods[n : n + 1]) for n in range(len(case.statuses))]
            assert wire.raw == b""
            wire.send(LAST)
        else:
            answers = []
        answers += wire.rest(case.methods[len(answers) :])
    expected = (*case.statuses, 200) if case.stays else case.statuses
    assert tuple(answer.status for answer in answers) == expected, answers
    for answer in answers:
        check_answer(answer)
    rig.wait_until(lambda: not rig.in_flight(), "nothing is in flight")
    assert len(rig.engine.seen) - before == case.reaches + case.stays
    rig.check_healthy()


def check_answer(answer: Answer) -> None:
    """What holds for every answer of the gateway, whatever was sent."""
    assert answer.whole
    assert answer.status < 500
    if answer.status < 200:
        return
    assert answer.header("date")
    assert answer.header("x-request-id")
    answer.header("connection")
    answer.header("content-length")
    answer.header("content-type")
    if answer.status >= 400 and answer.body:
        error = answer.json["error"]
        assert answer.header("content-type") == "application/json"
        if isinstance(error, dict):  # else the Open Inference Protocol's
            assert error.keys() == {"message", "type", "param", "code"}
            assert isinstance(error["message"], str)
            assert error["message"]


def with_header(*lines: bytes) -> bytes:
    """A good request with these header lines too."""
    return CHAT + b"".join(line + b"\r\n" for line in lines) + LENGTH + b"\r\n" + BODY


def get(path: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """A request without a body, on a connection that is to close."""
    head = [b"%b %b HTTP/%b" % (method, path, version), b"host: edge", b"connection: close", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n"
