"""Services and runtimes for tests, from as little as a test wants to say."""

from typing import Any

from serving.inference_service import InferenceService
from serving.runtime import ServingRuntime


def service(name: str = "demo", model: dict[str, Any] | None = None, **predictor: Any) -> InferenceService:
    """An InferenceService with a Hugging Face model; `model` and `predictor` fields are laid over it."""
    metadata = predictor.pop("metadata", {})
    given = {"modelFormat": {"name": "huggingface"}} | (model or {})
    return InferenceService.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name} | metadata,
            "spec": {"predictor": {"model": given} | predictor},
        }
    )


def runtime(name: str = "hf", container: dict[str, Any] | None = None, **spec: Any) -> ServingRuntime:
    """A ClusterServingRuntime for `huggingface`; `kind` and `metadata` may be given too."""
    kind, metadata = spec.pop("kind", "ClusterServingRuntime"), spec.pop("metadata", {})
    formats = [{"name": "huggingface", "autoSelect": True}]
    given = {"name": "kserve-container", "image": "engine:1"} | (container or {})
    return ServingRuntime.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": name} | metadata,
            "spec": {"supportedModelFormats": formats, "containers": [given]} | spec,
        }
    )
