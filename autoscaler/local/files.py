"""Service files: read once, and again whenever they change."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from autoscaler.local.status import Event, Level
from serving.inference_service import InferenceService
from serving.manifest import parse_services
from serving.validation import SpecError

Key = tuple[str, str]


class Target(Protocol):
    """What is told what to serve."""

    def apply(self, services: tuple[InferenceService, ...]) -> list[tuple[str, ...]]: ...
    def delete(self, key: Key) -> bool: ...


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        SpecError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error


class ServiceFiles:
    """Files whose changes are applied. A file that is broken or gone changes nothing, and is said to be."""

    def __init__(self, paths: tuple[Path, ...], target: Target, say: Callable[[Event], None]) -> None:
        self._paths = paths
        self._target = target
        self._say = say
        self._held: dict[Path, frozenset[Key]] = {}
        self._marks: dict[Path, object] = {}

    def load(self) -> tuple[InferenceService, ...]:
        """Read and apply all files. What is in them, in order.

        Raises:
            SpecError: a file is wrong, or two have a service of one name.
        """
        found: dict[Key, InferenceService] = {}
        for path in self._paths:
            self._marks[path] = _mark(path)
            services = parse_services(read_text(path), str(path))
            twice = [s.title for s in services if s.key in found]
            if twice:
                raise SpecError(f"{path}: metadata.name: {twice[0]!r} is in another file too; names must differ")
            found |= {s.key: s for s in services}
            self._held[path] = frozenset(s.key for s in services)
        self._target.apply(tuple(found.values()))
        return tuple(found.values())

    async def watch(self, interval_s: float = 0.5) -> None:
        """Apply changes of the files until cancelled. A file is looked at every `interval_s`."""
        while True:
            await asyncio.sleep(interval_s)
            for path in self._paths:
                mark = _mark(path)
                if mark != self._marks[path]:
                    self._marks[path] = mark
                    self._reload(path)

    def _reload(self, path: Path) -> None:
        try:
            services = parse_services(read_text(path), str(path))
            self._target.apply(services)
        except SpecError as error:
            self._say(Event(str(path), f"has changed and is not applied: {error}", Level.ERROR))
            return
        keys = frozenset(s.key for s in services)
        for key in self._held[path] - keys:
            self._target.delete(key)
        self._held[path] = keys
        self._say(Event(str(path), "has changed and is applied"))


def _mark(path: Path) -> object:
    """What differs when a file was written or replaced; None when it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
