"""Whether a service can run on this machine, and as what process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.select import NoRuntimeError, select
from autoscaler.template import PodTemplate, template
from engines.catalog import LocalEngine
from engines.launch import Launch
from serving.inference_service import InferenceService
from serving.runtime import ServingRuntime
from serving.validation import SpecError


@dataclass(frozen=True, slots=True)
class Host:
    """Questions to a machine: its environment, and whether a Python module, a program, a folder is there."""

    environ: Mapping[str, str]
    has_module: Callable[[str], bool]
    has_program: Callable[[str], bool]
    has_folder: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A service that can run here.

    `model_name` is what its engine answers to; `models` all names clients may use. `notes` are sentences
    about parts of the spec that have no effect here.
    """

    service: InferenceService
    runtime: ServingRuntime
    engine: LocalEngine
    model_name: str
    models: tuple[str, ...]
    reason: str
    notes: tuple[str, ...]


def accept(
    service: InferenceService,
    runtimes: Sequence[ServingRuntime],
    engines: Mapping[str, LocalEngine],
    host: Host,
) -> Accepted:
    """Pure, given what `host` answers. How the service runs here.

    Raises:
        SpecError: it cannot; the text says what stands in the way and what would help.
    """
    _refuse(service, _cluster_only(service))
    try:
        runtime, reason = select(service, runtimes)
    except NoRuntimeError as error:
        raise SpecError(f"{service.title}: {error}") from error
    pod = template(service, runtime)
    engine = engines.get(runtime.metadata.name) or LocalEngine(command=())
    _refuse(service, _missing(pod, engine, host))
    launch_of(pod, engine, service)
    name = engine.served_name(pod.container.args, service.metadata.name)
    return Accepted(
        service=service,
        runtime=runtime,
        engine=engine,
        model_name=name,
        models=tuple(dict.fromkeys((name, service.metadata.name, *service.aliases))),
        reason=reason,
        notes=tuple(_notes(service)),
    )


def launch_of(pod: PodTemplate, engine: LocalEngine, service: InferenceService) -> Launch:
    """Pure. The process of a pod.

    Raises:
        SpecError: its weights cannot be brought to this machine.
    """
    try:
        return engine.launch(pod.container, pod.storage_uri, pod.drain_s)
    except SpecError as error:
        raise SpecError(f"{service.title}: spec.predictor.model.{error}") from error


def renamed(runtimes: Sequence[ServingRuntime], aliases: Mapping[str, str]) -> tuple[ServingRuntime, ...]:
    """Pure. `runtimes`, and again under each alias; an alias is found by its name only, not by format."""
    found = {r.metadata.name: r for r in runtimes}
    copies = []
    for alias, name in aliases.items():
        if name in found and alias not in found:
            spec = found[name].spec
            formats = tuple(f.model_copy(update={"auto_select": False}) for f in spec.supported_model_formats)
            copies.append(
                found[name].model_copy(
                    update={
                        "metadata": found[name].metadata.model_copy(update={"name": alias}),
                        "spec": spec.model_copy(update={"supported_model_formats": formats}),
                    }
                )
            )
    return (*runtimes, *copies)


def _refuse(service: InferenceService, reasons: Iterator[str]) -> None:
    found = [f"{service.title}: {reason}" for reason in reasons]
    if found:
        raise SpecError("\n".join(found))


def _cluster_only(service: InferenceService) -> Iterator[str]:
    """Parts of a spec that only a cluster has, and without which the service would be another."""
    spec, predictor = service.spec, service.spec.predictor
    for path, given in (
        ("spec.transformer", spec.transformer),
        ("spec.explainer", spec.explainer),
        ("spec.canary", spec.canary),
        ("spec.predictor.workerSpec", predictor.worker_spec),
        ("spec.predictor.containers", predictor.containers),
        ("spec.predictor.model.storage", predictor.served and predictor.served.storage),
    ):
        if given:
            yield f"{path}: cannot run on this machine without a cluster; leave it out here"


def _missing(pod: PodTemplate, engine: LocalEngine, host: Host) -> Iterator[str]:
    """What the process needs and the machine does not have."""
    command = pod.container.command
    if not command and not engine.command:
        yield (
            f"runtime {pod.runtime} is a container image, and there is no program for it on this machine; "
            "give the program as spec.predictor.model.command"
        )
    elif command and not host.has_program(command[0]):
        yield f"spec.predictor.model.command: there is no program {command[0]!r} on this machine"
    absent = None if command else engine.missing(host.has_module)
    if absent:
        yield absent
    uri = pod.storage_uri or ""
    folder = uri.removeprefix("file://") if uri.startswith(("/", "file://")) else None
    if folder and not host.has_folder(folder):
        yield f"spec.predictor.model.storageUri: there is no {folder!r} on this machine"
    for env in pod.container.env:
        if env.value_from is not None and env.name not in host.environ:
            yield (
                f"spec.predictor.model.env: {env.name} comes from the cluster (valueFrom); "
                f"here, set it in the environment: export {env.name}=..."
            )


def _notes(service: InferenceService) -> Iterator[str]:
    predictor = service.spec.predictor
    if predictor.wanted_replicas == 0 and not service.stopped:
        yield "minReplicas is 0: nothing here can wake the service, so one replica stays"
    if predictor.max_replicas and predictor.max_replicas > predictor.wanted_replicas:
        yield "maxReplicas: nothing here scales by load, so minReplicas are run"
    extra = predictor.model_extra or {}
    for key in ("logger", "batcher"):
        if key in extra:
            yield f"spec.predictor.{key} has no effect here"
