"""Log files of a running `penstock up`: written within bounds, shown, and followed."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoscaler.local.log_file import tail

MOST_BYTES = 32 * 1024 * 1024
POLL_S = 0.2


class BoundedFile:
    """A file that is appended to, and set aside as `.1` when it is full."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._most = most_bytes
        self._open()

    def write(self, batch: bytes) -> None:
        """Append whole lines."""
        if self._size + len(batch) > self._most:
            self.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._open()
        os.write(self._file, batch)
        self._size += len(batch)

    def close(self) -> None:
        """Write nothing more."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size


def log_to(path: Path, level: str) -> None:
    """Send this process's log to `path`, and what is wrong to the terminal too."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setLevel(level.upper())
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=form, handlers=[file, terminal], force=True)


def last_lines(paths: Sequence[Path], lines: int) -> Iterator[str]:
    """The last lines of each file, under its name when there are several."""
    for path in paths:
        if len(paths) > 1:
            yield f"==> {path.name} <=="
        yield from tail(path, lines)


def follow(paths: Sequence[Path]) -> Iterator[str]:
    """What is written to the files from this call on, line by line, without end."""
    return _following(paths, {path: path.stat().st_size for path in paths})


def _following(paths: Sequence[Path], ends: dict[Path, int]) -> Iterator[str]:
    partial = dict.fromkeys(paths, b"")
    while True:
        for path in paths:
            fresh, ends[path] = _since(path, ends[path])
            *whole, partial[path] = (partial[path] + fresh).split(b"\n")
            prefix = f"{path.stem}: " if len(paths) > 1 else ""
            yield from (prefix + line.decode("utf-8", "replace") for line in whole)
        time.sleep(POLL_S)


def _since(path: Path, start: int) -> tuple[bytes, int]:
    """What stands in a file after byte `start`, and its end; from the beginning when it was replaced."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < start:
                start = 0
            file.seek(start)
            fresh = file.read(1024 * 1024)
    except OSError:
        return b"", start
    return fresh, start + len(fresh)
