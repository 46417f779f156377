"""Watching processes from tests: by id, and never by name."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 30.0
STANDIN = str(Path(__file__).parent.parent / "standin.py")


def alive(pid: int) -> bool:
    """Whether a process is there and is more than a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def noted(file: Path) -> list[int]:
    """The process ids that stand-ins wrote down."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def eventually(check: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + patience_s
    while not check():
        assert time.monotonic() < give_up, "it never came true"
        await asyncio.sleep(0.02)


def soon(check: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """The same, outside an event loop."""
    give_up = time.monotonic() + patience_s
    while not check():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.02)
