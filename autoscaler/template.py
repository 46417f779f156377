"""A service laid over its runtime: the pod that serves it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.container import Container, ContainerFields
from serving.inference_service import InferenceService, Model
from serving.runtime import ServingRuntime
from serving.validation import SpecError

PLACEHOLDER = re.compile(r"\{\{\s*\.(Name|Namespace|Labels|Annotations)(?:\.(\w+))?\s*\}\}")
MERGE_KEYS = {"env": "name", "volumeMounts": "mountPath", "ports": "containerPort"}
"""Lists that Kubernetes merges item by item, and the key that tells their items apart."""


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What a pod of a service runs, after merging. `drain_s` is None where the service does not say."""

    runtime: str
    container: Container
    storage_uri: str | None = None
    drain_s: float | None = None


def template(service: InferenceService, runtime: ServingRuntime) -> PodTemplate:
    """Pure. The runtime's model container with the service's fields over it, placeholders filled.

    Arguments are concatenated, the runtime's first; other fields follow Kubernetes' strategic merge.

    Raises:
        SpecError: a placeholder names a label or annotation that the service does not have.
        ValueError: the service holds no model.
    """
    model = service.spec.predictor.served
    if model is None:
        raise ValueError("a template needs a model")
    merged = merge(_plain(runtime.container), _own_fields(model))
    filled = fill(merged, service)
    if model.runtime_version is not None and filled.get("image"):
        filled["image"] = with_tag(filled["image"], model.runtime_version)
    grace = service.spec.predictor.termination_grace_period_seconds
    return PodTemplate(
        runtime=runtime.metadata.name,
        container=Container.model_validate(filled),
        storage_uri=model.storage_uri,
        drain_s=None if grace is None else float(grace),
    )


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Pure. `over` laid on `base`, both a container (or an object within one) as Kubernetes writes it."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if key == "args" and below:
            merged[key] = [*below, *value]
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        elif key in MERGE_KEYS and below:
            merged[key] = _by_key(below, value, MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def fill(value: Any, service: InferenceService) -> Any:
    """Pure. `value` with `{{.Name}}`, `{{.Namespace}}`, `{{.Labels.x}}`, `{{.Annotations.x}}` filled in.

    Raises:
        SpecError: the service has no such label or annotation.
    """
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: _named(found, service), value)
    if isinstance(value, Mapping):
        return {key: fill(item, service) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, service) for item in value]
    return value


def with_tag(image: str, tag: str) -> str:
    """Pure. The image with another tag; one that is named by digest stays as it is."""
    if "@" in image:
        return image
    folder, slash, name = image.rpartition("/")
    return f"{folder}{slash}{name.partition(':')[0]}:{tag}"


def _named(found: re.Match[str], service: InferenceService) -> str:
    field, key = found.group(1), found.group(2)
    meta = service.metadata
    if field in ("Name", "Namespace") and key is None:
        return meta.name if field == "Name" else meta.namespace
    if field in ("Labels", "Annotations"):
        value = (meta.labels if field == "Labels" else meta.annotations).get(key or "")
        if value is not None:
            return value
    raise SpecError(
        f"metadata.{field.lower()}: the runtime fills in {found.group(0)}, which {meta.name!r} does not have"
    )


def _by_key(below: list[Any], over: list[Any], key: str) -> list[Any]:
    merged = {item.get(key): item for item in below}
    for item in over:
        name = item.get(key)
        merged[name] = merge(merged[name], item) if name in merged else item
    return list(merged.values())


def _own_fields(model: Model) -> dict[str, Any]:
    """The container fields of a model, and none of the rest."""
    return {key: value for key, value in _plain(model).items() if key in ContainerFields.allowed_keys()}


def _plain(container: ContainerFields) -> dict[str, Any]:
    return container.model_dump(mode="json", by_alias=True, exclude_unset=True)
