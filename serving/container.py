"""A container as Kubernetes describes it, as far as Penstock acts on it; the rest is kept. No I/O."""

from typing import Any

from pydantic import Field

from serving.fields import Fields, Many, names

# What a container may have beside what is declared below (core/v1 Container).
CONTAINER_KEYS = names(
    "imagePullPolicy lifecycle resizePolicy restartPolicy securityContext stdin stdinOnce "
    "terminationMessagePath terminationMessagePolicy tty volumeDevices workingDir restartPolicyRules"
)


class EnvVar(Fields):
    """One environment variable: a literal value, or where Kubernetes takes it from."""

    name: str
    value: str | None = None
    value_from: dict[str, Any] | None = None


class Resources(Fields):
    """What a container asks for and may use at most, as Kubernetes quantities (`500m`, `2Gi`)."""

    known = frozenset({"claims"})
    requests: dict[str, str | int | float] = Field(default_factory=dict)
    limits: dict[str, str | int | float] = Field(default_factory=dict)


class ContainerFields(Fields):
    """The container fields that a container and a `model` of a predictor share."""

    known = CONTAINER_KEYS
    image: str | None = None
    command: Many[str] = ()
    args: Many[str] = ()
    env: Many[EnvVar] = ()
    env_from: Many[dict[str, Any]] = ()
    resources: Resources = Resources()
    ports: Many[dict[str, Any]] = ()
    volume_mounts: Many[dict[str, Any]] = ()
    liveness_probe: dict[str, Any] | None = None
    readiness_probe: dict[str, Any] | None = None
    startup_probe: dict[str, Any] | None = None


class Container(ContainerFields):
    """A container of a pod. The one that holds the model is named `kserve-container`."""

    name: str = "kserve-container"
