"""The plan: which revisions of a service are to be started, kept, replaced and ended, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from autoscaler.revision import revision
from autoscaler.template import PodTemplate, template
from serving.inference_service import InferenceService
from serving.runtime import ServingRuntime


@dataclass(frozen=True, slots=True)
class Workload:
    """A revision that is running: how many replicas it was asked for, how many are ready.

    `rolled_out` says that it once had all the traffic; a canary is measured against it.
    """

    revision: str
    replicas: int
    ready: int
    rolled_out: bool = False


@dataclass(frozen=True, slots=True)
class PlanConfig:
    """What the plan depends on beside the spec.

    `replicas` is what scaling asks for, None when nothing scales. `max_surge` is by how many replicas a
    rollout may go over the wanted count. `wakes_from_zero` says that a request can start a service that has
    no replica.
    """

    replicas: int | None = None
    max_surge: int = 1
    wakes_from_zero: bool = False


@dataclass(frozen=True, slots=True)
class Create:
    """Start a revision with this many replicas."""

    revision: str
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Start `new`, keep `old` until the new one is ready."""

    old: str
    new: str
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Leave a revision, with this many replicas."""

    revision: str
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Drain a revision and end it."""

    revision: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one service. `traffic` is each ready revision's weight, relative to the others.

    `rolled_out` is the revision that has all the traffic once this plan is carried out, or None.
    """

    service: str
    revision: str
    template: PodTemplate
    creates: tuple[Create, ...]
    replaces: tuple[Replace, ...]
    keeps: tuple[Keep, ...]
    deletes: tuple[Delete, ...]
    traffic: tuple[tuple[str, int], ...]
    rolled_out: str | None

    @property
    def sentences(self) -> tuple[str, ...]:
        """Every step with its reason, in the order of the fields."""
        return (
            *(f"create {self.service}-{c.revision} ({_count(c.replicas)}): {c.reason}" for c in self.creates),
            *(f"replace {self.service}-{r.old} by {self.service}-{r.new}: {r.reason}" for r in self.replaces),
            *(f"keep {self.service}-{k.revision} ({_count(k.replicas)}): {k.reason}" for k in self.keeps),
            *(f"delete {self.service}-{d.revision}: {d.reason}" for d in self.deletes),
        )


def plan(service: InferenceService, runtime: ServingRuntime, live: Sequence[Workload], config: PlanConfig) -> Plan:
    """Pure. What to do so that `live` becomes what `service` asks for. Asked again after every change.

    Raises:
        SpecError: the runtime needs a label or annotation that the service does not have.
    """
    pod = template(service, runtime)
    latest = revision(pod)
    wanted, why = replicas(service, config)
    steps = tuple(_steps(service, latest, live, wanted, why, config))
    keeps = tuple(s for s in steps if isinstance(s, Keep))
    traffic, rolled_out = _traffic(service, latest, live, wanted)
    return Plan(
        service=service.metadata.name,
        revision=latest,
        template=pod,
        creates=tuple(s for s in steps if isinstance(s, Create)),
        replaces=tuple(s for s in steps if isinstance(s, Replace)),
        keeps=keeps,
        deletes=tuple(s for s in steps if isinstance(s, Delete)),
        traffic=traffic,
        rolled_out=rolled_out,
    )


def replicas(service: InferenceService, config: PlanConfig) -> tuple[int, str]:
    """Pure. How many replicas the service is to have, and why."""
    predictor = service.spec.predictor
    low, high = predictor.wanted_replicas, predictor.max_replicas
    if service.stopped:
        return 0, "the service is stopped by its annotation serving.kserve.io/stop"
    if low == 0 and not config.wakes_from_zero:
        return max(1, config.replicas or 0), "minReplicas is 0, but nothing here can wake the service, so 1 stays"
    if config.replicas is None:
        return low, f"minReplicas is {low}"
    bounded = max(low, config.replicas if not high else min(config.replicas, high))
    return bounded, f"scaling asks for {config.replicas}, the spec allows {low} to {high or 'any number'}"


def _steps(
    service: InferenceService,
    latest: str,
    live: Sequence[Workload],
    wanted: int,
    why: str,
    config: PlanConfig,
) -> Iterator[Create | Replace | Keep | Delete]:
    new = next((w for w in live if w.revision == latest), None)
    others = [w for w in live if w.revision != latest]
    previous = _previous(service, latest, live)
    if wanted == 0:
        yield from (Delete(w.revision, why) for w in live)
    elif previous is not None:
        yield from _canary_steps(service, latest, new, previous, others, wanted)
    else:
        yield from _rollout_steps(latest, new, others, wanted, why, config)


def _rollout_steps(
    latest: str, new: Workload | None, others: Sequence[Workload], wanted: int, why: str, config: PlanConfig
) -> Iterator[Create | Replace | Keep | Delete]:
    """New replicas first; an old one goes for each new one that is ready, so that `wanted` always serve."""
    ready = 0 if new is None else new.ready
    kept = _kept(others, max(0, wanted - ready))
    target = min(wanted, max(1, wanted + config.max_surge - sum(kept.values())))
    serving = [w for w in others if kept.get(w.revision)]
    if new is not None:
        yield Keep(latest, target, why if target == wanted else f"{why}; the rest starts as the old ones go")
    elif serving:
        yield Replace(serving[0].revision, latest, target, "the spec has changed; the new revision starts first")
    else:
        yield Create(latest, target, why)
    for old in others:
        if kept.get(old.revision):
            yield Keep(old.revision, kept[old.revision], f"it serves until {latest} is ready")
        elif old.ready:
            yield Delete(old.revision, f"{latest} is ready and has taken its place")
        else:
            yield Delete(old.revision, f"the spec has changed to {latest}, and no replica of this one is ready")


def _kept(others: Sequence[Workload], needed: int) -> dict[str, int]:
    """How many replicas of each old revision go on serving; the one with the most ready first."""
    kept: dict[str, int] = {}
    for old in sorted((w for w in others if w.ready), key=lambda w: -w.ready):
        kept[old.revision] = min(old.replicas, needed)
        needed -= kept[old.revision]
    return kept


def _canary_steps(
    service: InferenceService,
    latest: str,
    new: Workload | None,
    previous: Workload,
    others: Sequence[Workload],
    wanted: int,
) -> Iterator[Create | Keep | Delete]:
    """Two revisions side by side, each with its share of the replicas and at least one."""
    share = service.spec.predictor.canary_traffic_percent or 0
    target = max(1, ceil(wanted * share / 100))
    reason = f"canaryTrafficPercent gives it {share} % of the traffic"
    yield Create(latest, target, reason) if new is None else Keep(latest, target, reason)
    rest = max(1, ceil(wanted * (100 - share) / 100)) if new is not None and new.ready else wanted
    yield Keep(previous.revision, rest, f"it has the rest of the traffic until {latest} is rolled out")
    for old in others:
        if old.revision != previous.revision:
            yield Delete(old.revision, f"{latest} is the canary now")


def _previous(service: InferenceService, latest: str, live: Sequence[Workload]) -> Workload | None:
    """The revision a canary stands beside, or None where there is no canary."""
    share = service.spec.predictor.canary_traffic_percent
    if share is None or share == 100:
        return None
    return next((w for w in live if w.rolled_out and w.revision != latest), None)


def _traffic(
    service: InferenceService, latest: str, live: Sequence[Workload], wanted: int
) -> tuple[tuple[tuple[str, int], ...], str | None]:
    """Weights of the ready revisions, and the one that has it all without being a canary."""
    ready = {w.revision: w.ready for w in live if w.ready}
    previous = _previous(service, latest, live)
    if wanted == 0:
        return (), None
    if previous is None:
        return tuple(ready.items()), latest if list(ready) == [latest] else None
    share = service.spec.predictor.canary_traffic_percent or 0
    split = {latest: share, previous.revision: 100 - share}
    able = {name: weight for name, weight in split.items() if name in ready}
    if len(able) < 2:
        return tuple((name, 100) for name in able), None
    return tuple((name, weight) for name, weight in able.items() if weight), None


def _count(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"
