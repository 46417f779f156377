"""The control socket, and probes: small protocols against good and bad peers."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from autoscaler.local.control import Apply, ControlServer, Delete, Get, ask
from autoscaler.local.probe import answers
from autoscaler.local.state import StateDir, StateError
from autoscaler.local.status import ServiceStatus
from engines.launch import Probe
from serving.inference_service import InferenceService
from tests.autoscaler.local.test_files import text


class Fake:
    """A cluster with one service."""

    def __init__(self) -> None:
        self.applied: list[str] = []

    def plans(self, services: tuple[InferenceService, ...]) -> list[tuple[str, ...]]:
        return [(f"would create {s.title}",) for s in services]

    def apply(self, services: tuple[InferenceService, ...]) -> list[tuple[str, ...]]:
        self.applied += [s.title for s in services]
        return [(f"create {s.title}",) for s in services]

    def delete(self, key: tuple[str, str]) -> bool:
        return key == ("default", "demo")

    def statuses(self) -> list[ServiceStatus]:
        return [ServiceStatus("demo", ("demo",), "r", 1, 1, 2.5)]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[StateDir, Fake]]:
    fake = Fake()
    with StateDir(tmp_path) as state:
        server = ControlServer(fake, "http://gateway")
        await server.start(state.new_socket())
        yield state, fake
        await server.stop()


async def test_requests_are_answered(served: tuple[StateDir, Fake]) -> None:
    state, fake = served
    answer = await asyncio.to_thread(ask, state, Get())
    assert (answer.url, answer.services) == ("http://gateway", tuple(fake.statuses()))
    answer = await asyncio.to_thread(ask, state, Apply(text("a", "b"), "f", dry_run=True))
    assert answer.plans == (("would create a",), ("would create b",))
    assert fake.applied == []
    await asyncio.to_thread(ask, state, Apply(text("a"), "f"))
    assert fake.applied == ["a"]
    await asyncio.to_thread(ask, state, Delete("default", "demo"))


async def test_errors_are_told(served: tuple[StateDir, Fake]) -> None:
    state, _ = served
    with pytest.raises(StateError, match="there is no service 'x/y'; there are: demo"):
        await asyncio.to_thread(ask, state, Delete("x", "y"))
    with pytest.raises(StateError, match="f: kind: 'Pod' is not read here"):
        await asyncio.to_thread(ask, state, Apply("kind: Pod", "f"))


@pytest.mark.parametrize("sent", [b"", b"\n", b"not json\n", b'{"type": "other"}\n', b"\xff\n", b'{"type":"get"'])
async def test_nonsense_is_answered_and_harms_nobody(served: tuple[StateDir, Fake], sent: bytes) -> None:
    state, _ = served
    reader, writer = await asyncio.open_unix_connection(str(state.socket()))
    writer.write(sent)
    writer.write_eof()
    assert b"not understood" in await reader.read()
    writer.close()
    await writer.wait_closed()
    assert (await asyncio.to_thread(ask, state, Get())).url == "http://gateway"


async def test_a_line_without_end_is_dropped(served: tuple[StateDir, Fake]) -> None:
    state, _ = served
    reader, writer = await asyncio.open_unix_connection(str(state.socket()))
    try:
        for _ in range(20):
            writer.write(b"x" * 1024 * 1024)
            await writer.drain()
        writer.write_eof()
        assert await reader.read() == b""
    except ConnectionError:
        pass
    writer.close()
    assert (await asyncio.to_thread(ask, state, Get())).url == "http://gateway"


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="does not run"):
        ask(StateDir(tmp_path), Get())
    with StateDir(tmp_path) as state:
        state.new_socket()
        with pytest.raises(StateError, match="does not run"):
            ask(state, Get())


def test_somebody_else_listens(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state, socket.socket(socket.AF_UNIX) as other:
        other.bind(str(state.new_socket()))
        other.listen()
        other.settimeout(0.01)

        def refuse() -> None:
            connection, _ = other.accept()
            connection.sendall(b"hello\n")
            connection.recv(100)
            connection.close()

        other.settimeout(20)
        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(StateError, match="does not answer"):
            ask(state, Get())
        thread.join()


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(what: bytes) -> Answering:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(what)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    return answer


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 204\r\n\r\n", True),
        (b"HTTP/1.0 302 Found\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False),
        (b"HTTP/1.1 abc\r\n\r\n", False),
        (b"SSH-2.0-x\r\n", False),
        (b"", False),
        (b"HTTP/1.1 200" + b"x" * 100_000, False),
    ],
)
async def test_a_probe_reads_the_status(answer: bytes, well: bool) -> None:
    async with await asyncio.start_server(saying(answer), "127.0.0.1", 0) as server:
        assert await answers(server.sockets[0].getsockname()[1], Probe("/x")) is well


async def test_a_probe_does_not_wait_for_ever() -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        assert not await answers(server.sockets[0].getsockname()[1], Probe("/x", timeout_s=0.05))
        await left.wait()


async def test_a_probe_of_a_closed_port_fails() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not await answers(unused.getsockname()[1], Probe("/x"))
