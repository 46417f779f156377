"""A client that sends what it is told, and reads answers with a strict parser that is not the gateway's (h11)."""

import contextlib
import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import h11

LIMIT_S = 10.0  # for anything to come; a case that reaches it has hung


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `whole`: its body ended as its head announced."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    whole: bool

    def header(self, name: str) -> str | None:
        """The value of a header that may be there once."""
        values = [value for n, value in self.headers if n == name]
        assert len(values) <= 1, self.headers
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def read_answers(raw: bytes, methods: Sequence[str] = (), *, ended: bool = True) -> list[Answer]:
    """Pure. The answers in `raw`, to requests with these methods (POST, if not said).

    Raises:
        h11.RemoteProtocolError: it is not HTTP/1.1 through and through.
    """
    answers: list[Answer] = []
    while raw:
        method = methods[len(answers)] if len(answers) < len(methods) else "POST"
        answer, raw = _read_one(raw, method, ended=ended)
        if answer is None:
            break
        answers.append(answer)
    return answers


def _read_one(raw: bytes, method: str, *, ended: bool) -> tuple[Answer | None, bytes]:
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "edge")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(raw)
    if ended:
        parser.receive_data(b"")
    head: h11.Response | None = None
    body = bytearray()
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            if head is None or "closed" not in str(error):
                raise
            return _answer(head, body, whole=False), b""
        if isinstance(event, h11.InformationalResponse):
            return _answer(event, body, whole=True), raw[raw.index(b"\r\n\r\n") + 4 :]
        if isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return _answer(head, body, whole=True), parser.trailing_data[0]
        elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return None, b""


def _answer(head: h11.Response | h11.InformationalResponse, body: bytearray, *, whole: bool) -> Answer:
    headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
    return Answer(head.status_code, headers, bytes(body), whole)


class Wire:
    """One connection. `raw`: everything received so far and not yet given out as an answer."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.settimeout(LIMIT_S)
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, *parts: bytes) -> None:
        """Each part in a write of its own; what the gateway no longer takes is dropped."""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                self.socket.sendall(part)

    def read(self) -> bool:
        """Wait for more; False when the gateway has closed."""
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionError:
            data = b""
        self.raw += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`, which must come."""
        while mark not in self.raw:
            assert self.read(), f"closed after {self.raw!r}"
        end = self.raw.index(mark) + len(mark)
        taken, self.raw = self.raw[:end], self.raw[end:]
        return taken

    def answer(self, method: str = "POST") -> Answer:
        """The next answer, whole; it must come."""
        while True:
            answer, rest = _read_one(self.raw, method, ended=False) if self.raw else (None, b"")
            if answer is not None:
                self.raw = rest
                return answer
            if not self.read():
                answers = read_answers(self.raw, [method])
                assert answers, f"closed without an answer: {self.raw!r}"
                self.raw = b""
                return answers[0]

    def rest(self, methods: Sequence[str] = ()) -> list[Answer]:
        """All answers until the gateway closes."""
        while self.read():
            pass
        raw, self.raw = self.raw, b""
        return read_answers(raw, methods)

    def half_close(self) -> None:
        """Send FIN; go on reading."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close."""
        self.socket.close()
