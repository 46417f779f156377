"""Which runtime serves a service's model."""

from collections.abc import Sequence

from serving.inference_service import InferenceService, Model
from serving.runtime import ServingRuntime, SupportedFormat

NONE_LAST = float("-inf")


class NoRuntimeError(ValueError):
    """No runtime can serve the model. `word` is KServe's failure reason; `str()` says what would help."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


def select(service: InferenceService, runtimes: Sequence[ServingRuntime]) -> tuple[ServingRuntime, str]:
    """Pure. The runtime for the service's model, and the reason as a sentence.

    A runtime that the service names is taken if it is enabled and fits. Otherwise those of the service's
    namespace come before those of the cluster, then by priority (highest first, none last), then the newest,
    then by name.

    Raises:
        NoRuntimeError: none fits, or the service holds no model.
    """
    model = service.spec.predictor.served
    if model is None:
        raise NoRuntimeError("InvalidPredictorSpec", "spec.predictor: has no model, so no runtime is looked for")
    reachable = [r for r in runtimes if r.for_all_namespaces or r.metadata.namespace == service.metadata.namespace]
    if model.runtime is not None:
        return _named(model, model.runtime, reachable, needs_workers(service))
    workers = needs_workers(service)
    fitting = [r for r in reachable if _misfit(r, model, workers) is None and _automatic(r, model)]
    if not fitting:
        raise NoRuntimeError("NoSupportingRuntime", _nothing_fits(model, reachable))
    best = _in_order(model, fitting)[0]
    return (
        best,
        f"runtime {best.metadata.name} serves model format {model.model_format.name!r} over {model.protocol}",
    )


def needs_workers(service: InferenceService) -> bool:
    """Pure. Whether the engine spans several nodes."""
    return service.spec.predictor.worker_spec is not None


def _named(model: Model, name: str, reachable: Sequence[ServingRuntime], workers: bool) -> tuple[ServingRuntime, str]:
    found = [r for r in reachable if r.metadata.name == name]
    if not found:
        known = ", ".join(sorted({r.metadata.name for r in reachable})) or "none"
        raise NoRuntimeError(
            "RuntimeNotRecognized",
            f"spec.predictor.model.runtime: {name!r} does not exist; there are: {known}",
        )
    runtime = sorted(found, key=lambda r: r.for_all_namespaces)[0]
    misfit = _misfit(runtime, model, workers)
    if misfit is not None:
        word = "RuntimeDisabled" if runtime.spec.disabled else "NoSupportingRuntime"
        raise NoRuntimeError(word, f"spec.predictor.model.runtime: {name!r} cannot be used: {misfit}")
    return runtime, f"runtime {name} is the one that the service names"


def _misfit(runtime: ServingRuntime, model: Model, workers: bool) -> str | None:
    """Why this runtime cannot serve the model, or None."""
    spec, wanted = runtime.spec, model.model_format
    if spec.disabled:
        return "it is disabled"
    if spec.multi_model:
        return "it serves many models per pod, which an InferenceService does not use"
    if not _matching(runtime, model):
        version = "" if wanted.version is None else f" version {wanted.version!r}"
        return f"it does not serve model format {wanted.name!r}{version}"
    if spec.protocol_versions and model.protocol not in spec.protocol_versions:
        return f"it speaks {', '.join(spec.protocol_versions)}, not {model.protocol}"
    if (spec.worker_spec is not None) != workers:
        return "it is for several nodes" if not workers else "it is for one node and the service has a workerSpec"
    return None


def _matching(runtime: ServingRuntime, model: Model) -> list[SupportedFormat]:
    wanted = model.model_format
    return [f for f in runtime.spec.supported_model_formats if f.matches(wanted.name, wanted.version)]


def _automatic(runtime: ServingRuntime, model: Model) -> bool:
    return any(f.auto_select for f in _matching(runtime, model))


def _in_order(model: Model, runtimes: Sequence[ServingRuntime]) -> list[ServingRuntime]:
    """Best first. Each sort keeps the order of the one before among equals."""

    def priority(runtime: ServingRuntime) -> float:
        given = [f.priority for f in _matching(runtime, model) if f.auto_select and f.priority is not None]
        return max(given, default=NONE_LAST)

    def created(runtime: ServingRuntime) -> str:
        return str((runtime.metadata.model_extra or {}).get("creationTimestamp") or "")

    ordered = sorted(runtimes, key=lambda r: r.metadata.name)
    ordered = sorted(ordered, key=created, reverse=True)
    ordered = sorted(ordered, key=priority, reverse=True)
    return sorted(ordered, key=lambda r: r.for_all_namespaces)


def _nothing_fits(model: Model, reachable: Sequence[ServingRuntime]) -> str:
    formats = sorted({f.name for r in reachable if not r.spec.disabled for f in r.spec.supported_model_formats})
    wanted = model.model_format
    version = "" if wanted.version is None else f" version {wanted.version!r}"
    return (
        f"spec.predictor.model.modelFormat: no runtime serves {wanted.name!r}{version} over "
        f"{model.protocol}; formats that are served: {', '.join(formats) or 'none'}"
    )
