"""Engine logs: where they are, and their last lines."""

import re
from pathlib import Path

TAIL_BYTES = 64 * 1024
ROTATE_BYTES = 32 * 1024 * 1024
NAME = re.compile(r"(?P<service>.+)-(?P<revision>[0-9a-f]{8})-(?P<index>\d+)\.log")


def log_name(service: str, revision: str, index: int) -> str:
    """Pure. The file's name: `SERVICE-REVISION-N.log`; a `/` after the namespace becomes a dot."""
    return f"{service.replace('/', '.')}-{revision}-{index}.log"


def logs_of(folder: Path, service: str) -> list[Path]:
    """The log files of a service's newest revision, by replica; empty if there is none."""
    wanted = service.replace("/", ".")
    found = [(match, path) for path in folder.glob("*.log") if (match := NAME.fullmatch(path.name))]
    own = [(match, path) for match, path in found if match["service"] == wanted]
    if not own:
        return []
    newest = max(own, key=lambda pair: pair[1].stat().st_mtime_ns)[0]["revision"]
    return sorted(
        (path for match, path in own if match["revision"] == newest),
        key=lambda path: int(path.stem.rpartition("-")[2]),
    )


def tail(path: Path, lines: int, since: int = 0) -> list[str]:
    """The last `lines` lines written after byte `since`, without blank ones; empty if there is no file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            start = max(since, end - TAIL_BYTES)
            file.seek(start)
            text = file.read(end - start).decode("utf-8", "replace")
    except OSError:
        return []
    shown = [line.rstrip() for line in text.splitlines() if line.strip()]
    return shown[max(0, len(shown) - lines) :]


def prune(folder: Path, keep: int) -> None:
    """Delete all but the `keep` newest engine logs."""
    found = sorted(folder.glob("*.log*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in found[keep:]:
        path.unlink(missing_ok=True)


def begin(path: Path, line: str) -> int:
    """Write a line that marks a new process, setting a large file aside first; the byte its output starts at.

    Raises:
        OSError: the log cannot be written.
    """
    if path.exists() and path.stat().st_size > ROTATE_BYTES:
        path.replace(path.with_suffix(".log.1"))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"--- penstock: {line}\n")
    path.chmod(0o600)
    return path.stat().st_size
