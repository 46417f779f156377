"""The rules an InferenceService must keep, beyond types. The one place that defines them. No I/O."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from serving.inference_service import FRAMEWORKS, Component, InferenceService, Model, WorkerSpec

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_LENGTH = 63  # what Kubernetes allows in a Service's name
STORAGE_SCHEMES = ("hf", "s3", "gs", "pvc", "file", "https", "http", "oci")
PROTOCOLS = ("v1", "v2", "grpc-v1", "grpc-v2")
AUTOSCALERS = ("penstock", "hpa", "keda", "external", "none")
SCALE_METRICS = ("concurrency", "rps", "cpu", "memory")
KSERVE = "serving.kserve.io"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where, what is there, and what may be there (`allowed` follows "it must be")."""

    path: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.path}: {self.value!r} is not allowed; it must be {self.allowed}"


class SpecError(ValueError):
    """A manifest that cannot be used. `str()` has one line per problem."""


def problems(service: InferenceService) -> tuple[Problem, ...]:
    """Pure. Every rule the service breaks, in the order of the fields."""
    return tuple(problem for rule in RULES for problem in rule(service))


def _names(service: InferenceService) -> Iterator[Problem]:
    namespace, name = service.key
    suffix = max(len(f"-{kind}") for kind, _ in _components(service))
    longest = LABEL_LENGTH - suffix
    if not NAME.fullmatch(name) or len(name) > longest:
        yield Problem(
            "metadata.name",
            name,
            f"lower-case letters, digits and '-', a letter first, at most {longest} long",
        )
    if not NAMESPACE.fullmatch(namespace) or len(namespace) > LABEL_LENGTH:
        yield Problem("metadata.namespace", namespace, "lower-case letters, digits and '-', at most 63 long")


def _annotations(service: InferenceService) -> Iterator[Problem]:
    path = "metadata.annotations."
    scaler = service.annotation(f"{KSERVE}/autoscalerClass")
    if scaler is not None and scaler not in AUTOSCALERS:
        yield Problem(f"{path}{KSERVE}/autoscalerClass", scaler, _one_of(AUTOSCALERS))
    share = service.annotation(f"{KSERVE}/targetUtilizationPercentage")
    if share is not None and not (share.isdecimal() and 1 <= int(share) <= 100):
        yield Problem(f"{path}{KSERVE}/targetUtilizationPercentage", share, "a whole number from 1 to 100")
    stop = service.annotation(f"{KSERVE}/stop")
    if stop not in (None, "true", "false"):
        yield Problem(f"{path}{KSERVE}/stop", stop, _one_of(("true", "false")))


def _one_source(service: InferenceService) -> Iterator[Problem]:
    predictor = service.spec.predictor
    given = [key for key in ("model", "containers") if getattr(predictor, key)] + list(predictor.frameworks)
    if len(given) != 1 and given != ["model", "containers"]:  # side-cars may stand beside a model
        allowed = "one with exactly one of: model, containers, " + ", ".join(FRAMEWORKS)
        yield Problem("spec.predictor", given, allowed)


def _replicas(service: InferenceService) -> Iterator[Problem]:
    for kind, part in _components(service):
        low, high, path = part.min_replicas, part.max_replicas, f"spec.{kind}."
        for key, value in (("minReplicas", low), ("maxReplicas", high)):
            if value is not None and value < 0:
                yield Problem(path + key, value, "a whole number of 0 or more")
        if low is not None and high and low > high:
            yield Problem(path + "minReplicas", low, f"at most maxReplicas, which is {high}")


def _component_numbers(service: InferenceService) -> Iterator[Problem]:
    for kind, part in _components(service):
        path = f"spec.{kind}."
        for key, value, low, high in (
            ("containerConcurrency", part.container_concurrency, 0, None),
            ("timeout", part.timeout, 1, None),
            ("canaryTrafficPercent", part.canary_traffic_percent, 0, 100),
            ("terminationGracePeriodSeconds", part.termination_grace_period_seconds, 0, None),
        ):
            if value is not None and (value < low or (high is not None and value > high)):
                top = "or more" if high is None else f"to {high}"
                yield Problem(path + key, value, f"a whole number of {low} {top}")


def _scale_metric(service: InferenceService) -> Iterator[Problem]:
    for kind, part in _components(service):
        extra = part.model_extra or {}
        metric, target = extra.get("scaleMetric"), extra.get("scaleTarget")
        if metric is not None and metric not in SCALE_METRICS:
            yield Problem(f"spec.{kind}.scaleMetric", metric, _one_of(SCALE_METRICS))
        if target is not None and (type(target) is not int or target < 1):
            yield Problem(f"spec.{kind}.scaleTarget", target, "a whole number of 1 or more")
        elif target is not None and metric in ("cpu", "memory") and target > 100:
            yield Problem(f"spec.{kind}.scaleTarget", target, f"1 to 100, as a percentage of {metric}")


def _canaries(service: InferenceService) -> Iterator[Problem]:
    shares = [c.traffic_percent or 0 for c in service.spec.canary]
    for index, share in enumerate(shares):
        if not 0 <= share <= 100:
            yield Problem(f"spec.canary[{index}].trafficPercent", share, "a whole number of 0 to 100")
    if sum(shares) > 100:
        yield Problem("spec.canary", shares, "shares whose sum is at most 100")


def _models(service: InferenceService) -> Iterator[Problem]:
    for path, model in _all_models(service):
        if model.protocol not in PROTOCOLS:
            yield Problem(f"{path}.protocolVersion", model.protocol, _one_of(PROTOCOLS))
        yield from _storage(path, model)
        for index, env in enumerate(model.env):
            if env.name == "PYTHONPATH":
                yield Problem(
                    f"{path}.env[{index}].name", env.name, "another name: it would hide the engine's own code"
                )


def _storage(path: str, model: Model) -> Iterator[Problem]:
    uri = model.storage_uri
    if uri is not None:
        scheme, separator, rest = uri.partition("://")
        local = uri.startswith("/")
        if not local and not (separator and rest and scheme in STORAGE_SCHEMES):
            allowed = " ".join(f"{s}://" for s in STORAGE_SCHEMES)
            yield Problem(f"{path}.storageUri", uri, f"a URI with one of {allowed}, or an absolute path")
        elif ".." in uri.split("/"):
            yield Problem(f"{path}.storageUri", uri, "a path without '..'")
        if model.storage is not None:
            yield Problem(f"{path}.storageUri", uri, "absent where storage is given: one of the two")
    if model.storage is not None and ".." in (model.storage.path or "").split("/"):
        yield Problem(f"{path}.storage.path", model.storage.path, "a path without '..'")


def _workers(service: InferenceService) -> Iterator[Problem]:
    worker: WorkerSpec | None = service.spec.predictor.worker_spec
    if worker is None:
        return
    for key, size in (
        ("pipelineParallelSize", worker.pipeline_parallel_size),
        ("tensorParallelSize", worker.tensor_parallel_size),
    ):
        if size is not None and size < 1:
            yield Problem(f"spec.predictor.workerSpec.{key}", size, "a whole number of 1 or more")


def _components(service: InferenceService) -> Iterator[tuple[str, Component]]:
    spec = service.spec
    for kind, part in (
        ("predictor", spec.predictor),
        ("transformer", spec.transformer),
        ("explainer", spec.explainer),
    ):
        if part is not None:
            yield kind, part


def _all_models(service: InferenceService) -> Iterator[tuple[str, Model]]:
    predictors = [("spec.predictor", service.spec.predictor)]
    predictors += [(f"spec.canary[{i}].predictor", c.predictor) for i, c in enumerate(service.spec.canary)]
    for path, predictor in predictors:
        if predictor.model is not None:
            yield f"{path}.model", predictor.model
        for framework, model in predictor.frameworks.items():
            yield f"{path}.{framework}", model


def _one_of(words: tuple[str, ...]) -> str:
    return "one of " + ", ".join(words)


RULES: tuple[Callable[[InferenceService], Iterator[Problem]], ...] = (
    _names,
    _annotations,
    _one_source,
    _replicas,
    _component_numbers,
    _scale_metric,
    _canaries,
    _models,
    _workers,
)
