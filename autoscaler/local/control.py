"""The control socket: `penstock get`, `plan`, `apply` and `delete` speak to a running controller over it.

One JSON object a line in each direction, on a Unix socket that only its owner may open.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Protocol

import msgspec

from autoscaler.local.state import StateDir, StateError
from autoscaler.local.status import ServiceStatus
from serving.inference_service import InferenceService
from serving.manifest import parse_services
from serving.validation import SpecError

LINE_BYTES = 16 * 1024 * 1024
ANSWER_S = 30.0


class Get(msgspec.Struct, frozen=True, tag="get"):
    """What runs?"""


class Apply(msgspec.Struct, frozen=True, tag="apply"):
    """Make the services of this text wanted; with `dry_run` only say what that would do."""

    text: str
    source: str
    dry_run: bool = False


class Delete(msgspec.Struct, frozen=True, tag="delete"):
    """Drain a service and forget it."""

    namespace: str
    name: str


Request = Get | Apply | Delete


class Answer(msgspec.Struct, frozen=True):
    """`error` is a sentence, or empty. `url` is the gateway's. `plans` has each service's sentences."""

    error: str = ""
    url: str = ""
    services: tuple[ServiceStatus, ...] = ()
    plans: tuple[tuple[str, ...], ...] = ()


class Commanded(Protocol):
    """What is controlled."""

    def plans(self, services: tuple[InferenceService, ...]) -> list[tuple[str, ...]]: ...
    def apply(self, services: tuple[InferenceService, ...]) -> list[tuple[str, ...]]: ...
    def delete(self, key: tuple[str, str]) -> bool: ...
    def statuses(self) -> list[ServiceStatus]: ...


class ControlServer:
    """Answers requests about a cluster whose gateway is at `url`."""

    def __init__(self, cluster: Commanded, url: str) -> None:
        self._cluster = cluster
        self._url = url
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen at `path`, in a directory that only its owner may enter.

        Raises:
            OSError: it cannot.
        """
        self._server = await asyncio.start_unix_server(self._serve, str(path), limit=LINE_BYTES)

    async def stop(self) -> None:
        """Take no more requests."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            writer.write(msgspec.json.encode(self.answer(line)) + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass  # the caller left, or sent a line without end: there is nobody to tell
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def answer(self, line: bytes) -> Answer:
        """The answer to one line."""
        try:
            request: Request = msgspec.json.decode(line, type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Answer(error=f"not understood: {error}")
        match request:
            case Get():
                return Answer(url=self._url, services=tuple(self._cluster.statuses()))
            case Delete(namespace, name):
                known = self._cluster.delete((namespace, name))
                return Answer(error="" if known else self._unknown(namespace, name))
            case Apply():
                return self._apply(request)

    def _apply(self, request: Apply) -> Answer:
        act = self._cluster.plans if request.dry_run else self._cluster.apply
        try:
            return Answer(plans=tuple(act(parse_services(request.text, request.source))))
        except SpecError as error:
            return Answer(error=str(error))

    def _unknown(self, namespace: str, name: str) -> str:
        there = ", ".join(s.name for s in self._cluster.statuses()) or "none"
        title = name if namespace == "default" else f"{namespace}/{name}"
        return f"there is no service {title!r}; there are: {there}"


def ask(state: StateDir, request: Request) -> Answer:
    """Send a request to the running controller and return its answer.

    Raises:
        StateError: none runs, it does not answer, or it answers with an error (whose text this has).
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_S)
            line.connect(os.fspath(state.socket()))
            line.sendall(msgspec.json.encode(request) + b"\n")
            line.shutdown(socket.SHUT_WR)
            with line.makefile("rb") as file:
                answer = msgspec.json.decode(file.readline(), type=Answer)
    except (ConnectionError, FileNotFoundError) as error:
        raise StateError(f"penstock up does not run with the state directory {state.path}") from error
    except (OSError, msgspec.DecodeError) as error:
        raise StateError(f"penstock up in {state.path} does not answer: {error}") from error
    if answer.error:
        raise StateError(answer.error)
    return answer
