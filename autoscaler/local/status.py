"""What the local cluster tells about itself: values that also travel as JSON."""

from enum import StrEnum

import msgspec


class Phase(StrEnum):
    """Where a replica is in its life."""

    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    CRASHED = "crashed"
    DRAINING = "draining"
    ENDING = "ending"
    GONE = "gone"


class Level(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a service, as a sentence; `detail` are lines of a log, if any."""

    service: str
    text: str
    level: Level = Level.INFO
    detail: tuple[str, ...] = ()


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One replica. `pid` and `port` are 0 where there is no process; `since_s` is seconds in this phase."""

    name: str
    phase: Phase
    pid: int
    port: int
    restarts: int
    since_s: float
    log: str


class ServiceStatus(msgspec.Struct, frozen=True):
    """One service. `wanted` replicas of `revision`, `ready` of any; `plan` are the last plan's sentences."""

    name: str
    models: tuple[str, ...]
    revision: str
    wanted: int
    ready: int
    age_s: float
    replicas: tuple[ReplicaStatus, ...] = ()
    plan: tuple[str, ...] = ()

    @property
    def phase(self) -> str:
        """One word for people."""
        if any(r.phase is Phase.CRASHED for r in self.replicas):
            return "crashed" if not self.ready else "degraded"
        if not self.wanted:
            return "stopped"
        return "ready" if self.ready >= self.wanted else "starting"
