"""A local cluster around stand-in engines."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autoscaler.local.accept import Host
from autoscaler.local.backoff import Backoff
from autoscaler.local.cluster import LocalCluster, Means
from autoscaler.local.ports import FreePorts
from autoscaler.local.replica import Surroundings
from autoscaler.local.status import Event, Phase
from engines.catalog import LocalEngine
from serving.inference_service import InferenceService
from serving.routes import RouteTable
from tests.autoscaler.local.processes import STANDIN, eventually, noted
from tests.autoscaler.samples import runtime, service

HOST = Host({}, has_module=lambda _: True, has_program=lambda _: True, has_folder=lambda _: True)

STANDIN_ENGINE = LocalEngine(command=(sys.executable, STANDIN))


@dataclass
class Rig:
    """A running cluster, and all it said."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    tables: list[RouteTable] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    engines: dict[str, LocalEngine] = field(default_factory=lambda: {"hf": STANDIN_ENGINE})
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    cluster: LocalCluster = field(init=False)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        means = Means((runtime(),), self.engines, HOST, self.folder)
        around = Surroundings(
            say=self.events.append,
            changed=self.changed.set,
            ports=FreePorts(),
            busy=lambda url: url in self.busy,
            backoff=Backoff(first_s=0.05, most_s=0.2, forgive_s=3600),
            look_s=0.02,
        )
        self.cluster = LocalCluster(means, around, self.changed, self.tables.append)

    @property
    def pids_file(self) -> Path:
        """Where stand-ins write down who they are and what they started."""
        return self.folder / "pids"

    def pids(self) -> list[int]:
        """Every process there ever was."""
        return noted(self.pids_file)

    def service(self, *flags: str, name: str = "demo", **predictor: Any) -> InferenceService:
        """A service whose engine is a stand-in with these flags."""
        args = [f"--pids={self.pids_file}", *flags]
        return service(name, model={"args": args}, **predictor)

    def start(self, *services: InferenceService) -> None:
        """Apply and run."""
        self.cluster.apply(services)
        if self.task is None:
            self.task = asyncio.create_task(self.cluster.run())

    def ready(self, name: str = "demo") -> int:
        """How many replicas of a service take requests, by the newest routes."""
        return len(self.urls(name))

    def urls(self, name: str = "demo") -> list[str]:
        """Where a service takes requests, by the newest routes."""
        routes = self.tables[-1].routes if self.tables else ()
        return [e.url for r in routes if r.service == name for e in r.endpoints if not e.draining]

    def phases(self) -> list[Phase]:
        """Every replica's phase."""
        return [r.phase for s in self.cluster.statuses() for r in s.replicas]

    def said(self, part: str) -> bool:
        """Whether an event has this in its text."""
        return any(part in event.text for event in self.events)

    async def until_ready(self, count: int = 1, name: str = "demo") -> None:
        """Wait until that many replicas take requests."""
        await eventually(lambda: self.ready(name) == count)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A cluster that leaves nothing behind."""
    made = Rig(tmp_path)
    yield made
    if made.task is not None:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)
    await made.cluster.kill()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a file."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
