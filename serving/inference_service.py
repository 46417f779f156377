"""InferenceService, `serving.kserve.io/v1beta1`. Types only; the rules are in `validation`. No I/O."""

from typing import Any, Literal

from pydantic import Field, model_validator

from serving.container import Container, ContainerFields
from serving.fields import Fields, Many, ObjectMeta, names

API_VERSION = "serving.kserve.io/v1beta1"
FRAMEWORKS = (
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
)
V2_FORMATS = frozenset({"huggingface", "triton", "onnx", "vllm"})

COMPONENT_KEYS = names("scaleTarget scaleMetric scaleMetricType autoScaling logger batcher deploymentStrategy")
POD_KEYS = names(
    "volumes initContainers ephemeralContainers restartPolicy activeDeadlineSeconds dnsPolicy nodeSelector "
    "serviceAccountName serviceAccount automountServiceAccountToken nodeName hostNetwork hostPID hostIPC "
    "shareProcessNamespace securityContext imagePullSecrets hostname subdomain affinity schedulerName "
    "tolerations hostAliases priorityClassName priority dnsConfig readinessGates runtimeClassName "
    "enableServiceLinks preemptionPolicy overhead topologySpreadConstraints setHostnameAsFQDN os hostUsers "
    "schedulingGates resourceClaims resources"
)


class ModelFormat(Fields):
    """The model's format, by which a runtime is found."""

    name: str
    version: str | None = None


class Storage(Fields):
    """Where the weights are, by a storage key of the cluster instead of a URI."""

    path: str | None = None
    key: str | None = Field(default=None, alias="key")
    schema_path: str | None = None
    parameters: dict[str, str] = Field(default_factory=dict)


class Model(ContainerFields):
    """The model of a predictor. Its container fields are laid over the runtime's container."""

    model_format: ModelFormat
    runtime: str | None = None
    storage_uri: str | None = None
    storage: Storage | None = None
    runtime_version: str | None = None
    protocol_version: str | None = None

    known = ContainerFields.known | {"name"}

    @property
    def protocol(self) -> str:
        """The protocol asked for, or the format's default."""
        if self.protocol_version is not None:
            return self.protocol_version
        return "v2" if self.model_format.name.casefold() in V2_FORMATS else "v1"


class WorkerSpec(Fields):
    """The further nodes of an engine that runs on several."""

    known = POD_KEYS | {"terminationGracePeriodSeconds"}
    containers: Many[Container] = ()
    pipeline_parallel_size: int | None = None
    tensor_parallel_size: int | None = None


class Component(Fields):
    """What predictor, transformer and explainer have in common. Times in seconds."""

    known = COMPONENT_KEYS | POD_KEYS
    containers: Many[Container] = ()
    min_replicas: int | None = None
    max_replicas: int | None = None
    container_concurrency: int | None = None
    timeout: int | None = None
    canary_traffic_percent: int | None = None
    termination_grace_period_seconds: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @property
    def wanted_replicas(self) -> int:
        """`minReplicas`, which is 1 when it is not given."""
        return 1 if self.min_replicas is None else self.min_replicas


class Predictor(Component):
    """The component that holds the model: a `model`, a framework key read as one, or own containers."""

    model: Model | None = None
    frameworks: dict[str, Model] = Field(default_factory=dict)
    worker_spec: WorkerSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def read_frameworks(cls, data: Any) -> Any:
        """Read `sklearn: {...}` as a model whose format is `sklearn`."""
        if not isinstance(data, dict) or "frameworks" in data:
            return data
        found = {k: v for k, v in data.items() if k in FRAMEWORKS}
        if not found:
            return data
        rest = {k: v for k, v in data.items() if k not in found}
        return rest | {"frameworks": {k: _as_model(k, v) for k, v in found.items()}}

    @property
    def served(self) -> Model | None:
        """The model, however it was written; None where the predictor has containers of its own."""
        return self.model or next(iter(self.frameworks.values()), None)


def _as_model(framework: str, value: Any) -> Any:
    return {"modelFormat": {"name": framework}} | value if isinstance(value, dict) else value


class Canary(Fields):
    """A further predictor and its share of the traffic."""

    predictor: Predictor
    traffic_percent: int | None = None


class InferenceServiceSpec(Fields):
    """`spec` of an InferenceService."""

    predictor: Predictor
    transformer: Component | None = None
    explainer: Component | None = None
    canary: Many[Canary] = ()


class InferenceService(Fields):
    """A model to serve, and how."""

    known = frozenset({"status"})
    api_version: Literal["serving.kserve.io/v1beta1"]
    kind: Literal["InferenceService"]
    metadata: ObjectMeta
    spec: InferenceServiceSpec

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name, by which services are told apart."""
        return self.metadata.namespace, self.metadata.name

    @property
    def title(self) -> str:
        """The name, with the namespace where that is not `default`."""
        namespace, name = self.key
        return name if namespace == "default" else f"{namespace}/{name}"

    def annotation(self, name: str) -> str | None:
        """The value of an annotation, or None."""
        return self.metadata.annotations.get(name)

    @property
    def stopped(self) -> bool:
        """Whether the service is to stay at zero replicas (`serving.kserve.io/stop: "true"`)."""
        return self.annotation("serving.kserve.io/stop") == "true"

    @property
    def aliases(self) -> tuple[str, ...]:
        """Further model names the service answers to (`penstock.dev/model-aliases`, separated by commas)."""
        listed = (self.annotation("penstock.dev/model-aliases") or "").split(",")
        return tuple(dict.fromkeys(alias.strip() for alias in listed if alias.strip()))
