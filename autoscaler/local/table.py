"""The routes of the local cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.local.status import Phase
from serving.inference_service import InferenceService
from serving.routes import DEFAULT_TIMEOUT_S, Endpoint, Revision, Route

IN_ROUTES = frozenset({Phase.READY, Phase.DRAINING})


@dataclass(frozen=True, slots=True)
class Seen:
    """A revision as it is: the name its engines know the model by, and each replica's phase and address."""

    revision: str
    model_name: str
    replicas: tuple[tuple[Phase, str], ...]


def route(
    service: InferenceService,
    models: tuple[str, ...],
    traffic: Sequence[tuple[str, int]],
    seen: Sequence[Seen],
    created_s: int,
) -> Route:
    """Pure. A service's route: ready replicas take requests, draining ones finish theirs.

    `traffic` is each revision's weight; one that is not in it takes nothing new. `created_s` is Unix time.
    """
    weights = dict(traffic)
    revisions = []
    for each in seen:
        endpoints = tuple(
            Endpoint(url, model=each.model_name, draining=phase is Phase.DRAINING)
            for phase, url in each.replicas
            if phase in IN_ROUTES
        )
        if endpoints:
            revisions.append(Revision(each.revision, endpoints, weights.get(each.revision, 0)))
    timeout = service.spec.predictor.timeout
    return Route(
        service=service.metadata.name,
        models=models,
        revisions=tuple(revisions),
        namespace=service.metadata.namespace,
        timeout_s=DEFAULT_TIMEOUT_S if timeout is None else float(timeout),
        created_s=created_s,
    )
