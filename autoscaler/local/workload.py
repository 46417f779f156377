"""A revision on this machine: its replicas, as many as it was asked for."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from autoscaler.local.log_file import log_name
from autoscaler.local.replica import LEAVING, Replica, Surroundings
from autoscaler.local.status import Phase, ReplicaStatus
from autoscaler.local.table import Seen
from autoscaler.plan import Workload
from engines.launch import Launch

SHUT_FIRST = (Phase.CRASHED, Phase.STARTING, Phase.UNREADY, Phase.READY)


class LocalWorkload:
    """The replicas of one revision. `scale` starts and drains; a drained replica leaves by itself."""

    def __init__(
        self, service: str, revision: str, model_name: str, launch: Launch, logs: Path, around: Surroundings
    ) -> None:
        self.revision = revision
        self.rolled_out = False
        self.target = 0
        self._service = service
        self._model_name = model_name
        self._launch = launch
        self._logs = logs
        self._around = around
        self._replicas: dict[int, Replica] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._drains: set[asyncio.Task[None]] = set()

    @property
    def gone(self) -> bool:
        """Whether nothing is left of it, and nothing is wanted."""
        return not self._replicas and self.target == 0

    def live(self) -> Workload:
        """This revision as the plan sees it."""
        ready = sum(r.phase is Phase.READY for r in self._replicas.values())
        return Workload(self.revision, self.target, ready, self.rolled_out)

    def seen(self) -> Seen:
        """This revision as the routes see it."""
        replicas = tuple((r.phase, r.url) for _, r in sorted(self._replicas.items()))
        return Seen(self.revision, self._model_name, replicas)

    def statuses(self) -> list[ReplicaStatus]:
        """Each replica, by number."""
        return [replica.status() for _, replica in sorted(self._replicas.items())]

    def scale(self, target: int) -> None:
        """Have `target` replicas: start what is missing, drain what is too many, the least useful first."""
        self.target = target
        staying = {i: r for i, r in self._replicas.items() if r.phase not in LEAVING}
        for _ in range(target - len(staying)):
            self._start()
        order = sorted(staying, key=lambda i: (SHUT_FIRST.index(staying[i].phase), -i))
        for index in order[: max(0, len(staying) - target)]:
            self._keep(asyncio.create_task(staying[index].drain()))

    def kill(self) -> None:
        """End every process at once."""
        self.target = 0
        for replica in self._replicas.values():
            replica.kill()

    async def wait(self) -> None:
        """Wait until no process is left."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())
            await asyncio.sleep(0)  # lets the tasks' callbacks take them out

    def _start(self) -> None:
        index = next(i for i in range(len(self._replicas) + 1) if i not in self._replicas)
        name = f"{self._service}-{self.revision}-{index}"
        log = self._logs / log_name(self._service, self.revision, index)
        replica = Replica(self._service, name, self._launch, log, self._around)
        self._replicas[index] = replica
        task = asyncio.create_task(replica.run(), name=name)
        self._tasks[index] = task
        task.add_done_callback(self._leaver(index))

    def _leaver(self, index: int) -> Callable[[asyncio.Task[None]], None]:
        def leave(task: asyncio.Task[None]) -> None:
            del self._replicas[index], self._tasks[index]
            self._around.changed()
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

        return leave

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)
