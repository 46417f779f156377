"""`gateway.server.run` as a process of its own: signals, exit status, what it writes."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.gateway.edge_case import get
from tests.gateway.edge_rig import PATIENCE_S, Rig, post, rig_of
from tests.gateway.edge_wire import Wire

HELD_STREAM = b'{"model": "m", "hold": true, "stream": true}'

PROGRAM = """
import sys
from gateway.config import load_settings
from gateway.server import run
from pathlib import Path
run(load_settings(Path(sys.argv[1])))
"""


class Process:
    """`gateway.server.run` as a process of its own, before an engine in this one."""

    def __init__(self, settings: Path, port: int, engine_rig: Rig) -> None:
        self.port = port
        self.rig = engine_rig
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(settings)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wire(self) -> Wire:
        """A connection, once it listens."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return Wire(self.port)
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.process.communicate()
                assert time.monotonic() < until
                time.sleep(0.02)

    def ended(self) -> tuple[int, str, str]:
        """Its exit status and what it wrote."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Lends its engine."""
    with rig_of() as running:
        yield running


@pytest.fixture
def process(rig: Rig, tmp_path: Path) -> Iterator[Process]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = tmp_path / "gateway.yaml"
    settings.write_text(
        f"port: {port}\nmodels:\n- name: m\n  endpoints: [{{url: 'http://127.0.0.1:{rig.engine.port}'}}]\n"
    )
    running = Process(settings, port, rig)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(process: Process, number: signal.Signals) -> None:
    with process.wire() as wire, process.wire() as idle:
        idle.send(get(b"/healthz"))
        assert idle.answer().status == 200
        wire.send(post(HELD_STREAM))
        wire.until(b"word0")
        assert psutil.Process(process.process.pid).children() == []
        process.process.send_signal(number)
        assert idle.rest() == []
        process.rig.wait_until(lambda: refuses(process.port), "it accepts nothing new")
        assert process.process.poll() is None
        process.rig.ask(process.rig.engine.release)
        text = wire.until(b"0\r\n\r\n")
        assert b"word2" in text
        assert b"error" not in text
    status, out, err = process.ended()
    assert status == 0
    assert "Traceback" not in err
    (line,) = map(json.loads, out.splitlines())
    assert line["outcome"] == "ok"


def test_a_second_signal_does_not_wait(process: Process) -> None:
    with process.wire() as wire:
        wire.send(post(HELD_STREAM))
        wire.until(b"word0")
        process.process.send_signal(signal.SIGTERM)
        process.rig.wait_until(lambda: refuses(process.port), "it accepts nothing new")
        process.process.send_signal(signal.SIGTERM)
        assert b"shutting_down" in wire.until(b"0\r\n\r\n")
    status, out, err = process.ended()
    assert status == 0
    assert "Traceback" not in err
    assert json.loads(out)["error_code"] == "shutting_down"
    process.rig.wait_until(lambda: not process.rig.engine.running, "the engine has stopped")


def test_a_port_that_is_taken_ends_the_process_with_the_reason(process: Process, tmp_path: Path) -> None:
    process.wire().close()
    second = Process(tmp_path / "gateway.yaml", process.port, process.rig)
    status, _, err = second.ended()
    assert status != 0
    assert f"cannot listen on 127.0.0.1:{process.port}: Address already in use" in err


def refuses(port: int) -> bool:
    try:
        Wire(port).close()
    except ConnectionRefusedError:
        return True
    return False
