"""The engines Penstock can start on this machine without a container, by the name of their runtime."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engines.launch import LIVE, PORT, READY, STARTUP_S, Launch, Probe
from serving.container import Container
from serving.validation import SpecError

CODE = str(Path(__file__).resolve().parent.parent)
"""The folder this package was loaded from, so that a child process runs the same code."""
KILL_MARGIN_S = 2.0


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """A program that serves a model, and how its flags are called.

    `modules` must be importable for it to run; `extra` of this package brings them.
    """

    command: tuple[str, ...]
    name_flag: str = "--model_name"
    id_flag: str = "--model_id"
    dir_flag: str = "--model_dir"
    revision_flag: str = "--model_revision"
    drain_flag: str | None = None
    address: tuple[str, ...] = ("--host", "127.0.0.1", "--port", PORT)
    env: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()
    extra: str = ""
    ready: Probe = READY
    live: Probe = LIVE
    startup_s: float = STARTUP_S

    def missing(self, installed: Callable[[str], bool]) -> str | None:
        """Pure. Why it cannot run here, or None. `installed` says whether a module is there."""
        absent = [module for module in self.modules if not installed(module)]
        if not absent:
            return None
        return (
            f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed; "
            f'install them with: pip install "penstock[{self.extra}]"'
        )

    def served_name(self, args: tuple[str, ...], default: str) -> str:
        """Pure. The model name the engine answers to: its last name flag in `args`, or `default`."""
        name = default
        for position, part in enumerate(args):
            if part.startswith(f"{self.name_flag}="):
                name = part.removeprefix(f"{self.name_flag}=")
            elif part == self.name_flag and position + 1 < len(args):
                name = args[position + 1]
        return name or default

    def launch(self, container: Container, storage_uri: str | None, drain_s: float | None = None) -> Launch:
        """Pure. The process for `container` here. A `command` in the container is run as it is.

        Raises:
            SpecError: weights that only a cluster can bring.
        """
        command = container.command or (
            *self.command,
            *self.source(storage_uri),
            *self._draining(drain_s),
        )
        given = {e.name: e.value or "" for e in container.env if e.value_from is None}
        env = given if container.command else dict(self.env) | given
        launch = Launch(
            argv=(*command, *container.args, *self.address),
            ready=self.ready,
            live=self.live,
            startup_s=self.startup_s,
            env=tuple(sorted(env.items())),
            image=container.image,
        )
        return launch if drain_s is None else replace(launch, drain_s=drain_s)

    def source(self, storage_uri: str | None) -> tuple[str, ...]:
        """Pure. The flags that say where the weights are.

        Raises:
            SpecError: weights that only a cluster can bring.
        """
        if storage_uri is None:
            return ()
        scheme, separator, rest = storage_uri.partition("://")
        if not separator:
            return self.dir_flag, storage_uri
        if scheme == "file":
            return self.dir_flag, "/" + rest.lstrip("/")
        if scheme == "hf":
            name, _, revision = rest.partition(":")
            return (self.id_flag, name, self.revision_flag, revision) if revision else (self.id_flag, name)
        raise SpecError(
            f"storageUri: {storage_uri!r} cannot be fetched on this machine; use a local path, file:// or hf:// here"
        )

    def _draining(self, drain_s: float | None) -> tuple[str, ...]:
        """The flag for the drain time, a little less than what comes before SIGKILL."""
        if drain_s is None or self.drain_flag is None:
            return ()
        return self.drain_flag, f"{max(0.0, drain_s - KILL_MARGIN_S):g}"


_HUGGINGFACE = LocalEngine(
    command=(sys.executable, "-m", "engines.huggingface"),
    drain_flag="--drain_timeout",
    env=(("PYTHONPATH", CODE),),
    modules=("torch", "transformers", "sse_starlette"),
    extra="huggingface",
)

ENGINES: Mapping[str, LocalEngine] = {
    "penstock-huggingface": _HUGGINGFACE,
    "kserve-huggingfaceserver": _HUGGINGFACE,
}

ALIASES: Mapping[str, str] = {"kserve-huggingfaceserver": "penstock-huggingface"}
"""Runtimes that existing manifests name, and the runtime of ours that stands in for them here."""
