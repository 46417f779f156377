"""Child processes of a measurement: started with a log, ended with all their children whatever happens."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

ROOT = Path(__file__).resolve().parents[2]
_GRACE_S = 5.0
# Linux: a child is told when we die, even of SIGKILL, so that no gateway is left behind.
_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def child(
    argv: Sequence[str], log: Path, *, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as the block, and its descendants no longer; its output goes to `log`."""
    lifeline = _WITH_PARENT if shutil.which(_WITH_PARENT[0]) else ()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*lifeline, *argv],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        _tell(member, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(family, _GRACE_S)
    for member in stubborn:
        _tell(member, signal.SIGKILL)
    process.wait()


def _tell(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def end_on_sigterm() -> None:
    """Let SIGTERM unwind the stack, so that children are ended with their own children."""
    signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def last_words(log: Path, characters: int = 600) -> str:
    """The end of a log."""
    return log.read_text(errors="replace")[-characters:].strip()
