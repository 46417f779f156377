"""ServingRuntime and ClusterServingRuntime, `serving.kserve.io/v1alpha1`: templates of engines. No I/O."""

from typing import Literal

from pydantic import Field, model_validator

from serving.container import Container
from serving.fields import Fields, Many, ObjectMeta, names
from serving.inference_service import POD_KEYS, WorkerSpec

API_VERSION = "serving.kserve.io/v1alpha1"
MODEL_CONTAINER = "kserve-container"


class SupportedFormat(Fields):
    """A model format a runtime serves; found without being named only where `autoSelect` is true."""

    name: str
    version: str | None = None
    auto_select: bool = False
    priority: int | None = None

    def matches(self, name: str, version: str | None) -> bool:
        """Whether a model of this format fits. Names match in any case; no version fits any."""
        return self.name.casefold() == name.casefold() and (version is None or version == self.version)


class RuntimeSpec(Fields):
    """`spec` of a runtime."""

    known = POD_KEYS | names(
        "replicas storageHelper builtInAdapter grpcEndpoint grpcDataEndpoint httpDataEndpoint "
        "terminationGracePeriodSeconds"
    )
    supported_model_formats: Many[SupportedFormat] = ()
    protocol_versions: Many[str] = ()
    disabled: bool = False
    multi_model: bool = False
    containers: Many[Container]
    worker_spec: WorkerSpec | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class ServingRuntime(Fields):
    """A template of an engine, for one namespace or, as ClusterServingRuntime, for all."""

    known = frozenset({"status"})
    api_version: Literal["serving.kserve.io/v1alpha1"]
    kind: Literal["ServingRuntime", "ClusterServingRuntime"]
    metadata: ObjectMeta
    spec: RuntimeSpec

    @model_validator(mode="after")
    def _holds_a_model_container(self) -> "ServingRuntime":
        if not any(c.name == MODEL_CONTAINER for c in self.spec.containers):
            raise ValueError(f"spec.containers needs one named {MODEL_CONTAINER}")
        return self

    @property
    def for_all_namespaces(self) -> bool:
        """Whether every namespace may use it."""
        return self.kind == "ClusterServingRuntime"

    @property
    def container(self) -> Container:
        """The container that holds the model."""
        return next(c for c in self.spec.containers if c.name == MODEL_CONTAINER)
