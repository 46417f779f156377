"""The local cluster: carries out plans with processes of this machine, and hands out the routes to them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoscaler.local.accept import Accepted, Host, accept, launch_of
from autoscaler.local.replica import Surroundings
from autoscaler.local.status import Event, Level, ServiceStatus
from autoscaler.local.table import route
from autoscaler.local.workload import LocalWorkload
from autoscaler.plan import Create, Keep, Plan, PlanConfig, Replace, plan
from engines.catalog import LocalEngine
from serving.inference_service import InferenceService
from serving.routes import Route, RouteTable
from serving.runtime import ServingRuntime
from serving.validation import SpecError

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Means:
    """What the cluster has to run services with."""

    runtimes: tuple[ServingRuntime, ...]
    engines: Mapping[str, LocalEngine]
    host: Host
    logs: Path
    config: PlanConfig = field(default_factory=PlanConfig)


@dataclass(slots=True)
class _Deployed:
    """A service that runs here. `wanted` is False once it was deleted and only drains."""

    accepted: Accepted
    created_s: float
    workloads: dict[str, LocalWorkload] = field(default_factory=dict)
    last: Plan | None = None
    wanted: bool = True


class LocalCluster:
    """Keeps processes as the services say. `publish` gets a new route table whenever routes change."""

    def __init__(
        self,
        means: Means,
        around: Surroundings,
        changed: asyncio.Event,
        publish: Callable[[RouteTable], None],
    ) -> None:
        self._means = means
        self._around = around
        self._changed = changed
        self._publish = publish
        self._services: dict[Key, _Deployed] = {}
        self._table = RouteTable()

    def check(self, services: Sequence[InferenceService]) -> tuple[Accepted, ...]:
        """Whether the services can run here, beside those that do.

        Raises:
            SpecError: one cannot, or two would answer to one model name.
        """
        means = self._means
        accepted = tuple(accept(s, means.runtimes, means.engines, means.host) for s in services)
        models = {key: d.accepted.models for key, d in self._services.items() if d.wanted}
        models |= {a.service.key: a.models for a in accepted}
        try:
            RouteTable.of(Route(key[1], names, ()) for key, names in models.items())
        except ValueError as error:
            raise SpecError(str(error)) from error
        return accepted

    def plans(self, services: Sequence[InferenceService]) -> list[tuple[str, ...]]:
        """What `apply` would do, service by service, as sentences.

        Raises:
            SpecError: as `check`.
        """
        found = []
        for accepted in self.check(services):
            deployed = self._services.get(accepted.service.key)
            found.append((accepted.reason, *self._planned(accepted, deployed).sentences, *accepted.notes))
        return found

    def apply(self, services: Sequence[InferenceService]) -> list[tuple[str, ...]]:
        """Make the services what is wanted; `run` does it. The plans' sentences. All of them or none.

        Raises:
            SpecError: as `check`.
        """
        sentences = self.plans(services)
        for accepted in self.check(services):
            deployed = self._services.get(accepted.service.key)
            told = () if deployed is None else deployed.accepted.notes
            for note in accepted.notes:
                if note not in told:
                    self._around.say(Event(accepted.service.title, note, Level.WARNING))
            if deployed is None:
                self._services[accepted.service.key] = _Deployed(accepted, time.time())
            else:
                deployed.accepted, deployed.wanted = accepted, True
        self._changed.set()
        return sentences

    def delete(self, key: Key) -> bool:
        """Drain a service and forget it. Whether there was one."""
        deployed = self._services.get(key)
        if deployed is None or not deployed.wanted:
            return False
        deployed.wanted = False
        self._changed.set()
        return True

    def statuses(self) -> list[ServiceStatus]:
        """Every service, in the order they came."""
        return [self._status(deployed) for deployed in self._services.values()]

    async def run(self) -> None:
        """Carry out what is wanted, again after every change, until cancelled."""
        while True:
            self._changed.clear()
            for key, deployed in list(self._services.items()):
                self._reconcile(key, deployed)
            self._hand_out()
            await self._changed.wait()

    async def close(self) -> None:
        """Drain every engine and wait until no process is left."""
        for deployed in self._services.values():
            deployed.wanted = False
            for workload in deployed.workloads.values():
                workload.scale(0)
        await self._all_gone()

    async def kill(self) -> None:
        """End every engine at once and wait until no process is left."""
        for deployed in self._services.values():
            deployed.wanted = False
            for workload in deployed.workloads.values():
                workload.kill()
        await self._all_gone()

    async def _all_gone(self) -> None:
        for deployed in list(self._services.values()):
            for workload in list(deployed.workloads.values()):
                await workload.wait()

    def _planned(self, accepted: Accepted, deployed: _Deployed | None) -> Plan:
        live = [] if deployed is None else [w.live() for w in deployed.workloads.values() if w.target]
        return plan(accepted.service, accepted.runtime, live, self._means.config)

    def _reconcile(self, key: Key, deployed: _Deployed) -> None:
        """One service: plan, start, scale, drain, forget what is gone."""
        for name in [name for name, workload in deployed.workloads.items() if workload.gone]:
            del deployed.workloads[name]
        if not deployed.wanted:
            for workload in deployed.workloads.values():
                workload.scale(0)
            if not deployed.workloads:
                del self._services[key]
                self._around.say(Event(deployed.accepted.service.title, "is deleted"))
            return
        planned = self._planned(deployed.accepted, deployed)
        self._tell(deployed, planned)
        self._carry_out(deployed, planned)
        deployed.last = planned

    def _carry_out(self, deployed: _Deployed, planned: Plan) -> None:
        for create in planned.creates:
            self._workload(deployed, planned, create.revision).scale(create.replicas)
        for change in planned.replaces:
            self._workload(deployed, planned, change.new).scale(change.replicas)
        for keep in planned.keeps:
            deployed.workloads[keep.revision].scale(keep.replicas)
        for gone in planned.deletes:
            deployed.workloads[gone.revision].scale(0)
        if planned.rolled_out is not None:
            deployed.workloads[planned.rolled_out].rolled_out = True

    def _workload(self, deployed: _Deployed, planned: Plan, revision: str) -> LocalWorkload:
        """The workload of a revision, which may still be draining from an earlier time."""
        accepted = deployed.accepted
        if revision not in deployed.workloads:
            deployed.workloads[revision] = LocalWorkload(
                accepted.service.title,
                revision,
                accepted.model_name,
                launch_of(planned.template, accepted.engine, accepted.service),
                self._means.logs,
                self._around,
            )
        return deployed.workloads[revision]

    def _tell(self, deployed: _Deployed, planned: Plan) -> None:
        """Say each step that starts or ends something, once."""
        told = () if deployed.last is None else deployed.last.sentences
        for sentence in planned.sentences:
            if sentence not in told and not sentence.startswith("keep "):
                self._around.say(Event(deployed.accepted.service.title, sentence, Level.INFO))

    def _hand_out(self) -> None:
        table = RouteTable.of(self._route(d) for d in self._services.values() if d.wanted)
        if table != self._table:
            self._table = table
            self._publish(table)

    def _route(self, deployed: _Deployed) -> Route:
        seen = [workload.seen() for workload in deployed.workloads.values()]
        accepted = deployed.accepted
        planned = self._planned(accepted, deployed)
        return route(accepted.service, accepted.models, planned.traffic, seen, int(deployed.created_s))

    def _status(self, deployed: _Deployed) -> ServiceStatus:
        planned = self._planned(deployed.accepted, deployed)
        steps: tuple[Create | Replace | Keep, ...] = (*planned.creates, *planned.replaces, *planned.keeps)
        return ServiceStatus(
            name=deployed.accepted.service.title,
            models=deployed.accepted.models,
            revision=planned.revision,
            wanted=sum(step.replicas for step in steps) if deployed.wanted else 0,
            ready=sum(w.live().ready for w in deployed.workloads.values()),
            age_s=round(time.time() - deployed.created_s, 1),
            replicas=tuple(s for w in deployed.workloads.values() for s in w.statuses()),
            plan=planned.sentences,
        )
