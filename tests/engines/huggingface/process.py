"""Starts real engine processes for tests, and ends them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import httpx

TIMEOUT_S = 90.0


@dataclass
class EngineProcess:
    """A running engine: where it listens, and the process."""

    url: str
    process: subprocess.Popen[str]

    def metric(self, name: str) -> float:
        """A metric's value, all labels added up."""
        text = httpx.get(f"{self.url}/metrics").text
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith((f"penstock_engine_{name} ", f"penstock_engine_{name}{{"))
        )

    def until(self, name: str, value: float) -> None:
        """Wait until a metric has a value."""
        deadline = monotonic() + TIMEOUT_S
        while self.metric(name) != value:
            assert monotonic() < deadline, f"{name} is {self.metric(name)}, not {value}"
            sleep(0.01)

    async def reaches(self, name: str, value: float) -> None:
        """`until`, for tests whose own tasks must go on meanwhile."""
        await asyncio.to_thread(self.until, name, value)

    def until_ready(self) -> None:
        """Wait until it takes requests."""
        deadline = monotonic() + TIMEOUT_S
        while True:
            try:
                if httpx.get(f"{self.url}/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, self.process.communicate()
            assert monotonic() < deadline
            sleep(0.05)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(TIMEOUT_S)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def engine(model_dir: Path, *flags: str, port: int | None = None) -> Iterator[EngineProcess]:
    """An engine process, not ready yet; killed at the end if it still runs."""
    port = port or free_port()
    command = [sys.executable, "-m", "engines.huggingface", "--model_dir", str(model_dir), "--model_name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--threads", "1", *flags]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    try:
        yield EngineProcess(f"http://127.0.0.1:{port}", process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
