"""The rules of reference: each one broken once, and the borders kept."""

from typing import Any

import pytest

from serving.inference_service import InferenceService
from serving.validation import problems
from tests.autoscaler.samples import service


def paths(of: InferenceService) -> list[str]:
    return [problem.path for problem in problems(of)]


def described(**spec: Any) -> InferenceService:
    """A service from a whole `spec`."""
    return InferenceService.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "demo"},
            "spec": spec,
        }
    )


MODEL = {"model": {"modelFormat": {"name": "huggingface"}}}


def test_a_plain_service_breaks_no_rule() -> None:
    assert problems(service()) == ()


@pytest.mark.parametrize("name", ["a", "a-b", "a1", "a" * 53])
def test_good_names(name: str) -> None:
    assert paths(service(name)) == []


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "a-", "a.b", "a_b", "a" * 54, "ä", "a\n"])
def test_bad_names(name: str) -> None:
    assert paths(service(name)) == ["metadata.name"]


def test_a_name_must_leave_room_for_the_longest_suffix() -> None:
    transformed = described(predictor=MODEL, transformer={"containers": [{"name": "t"}]})
    long = transformed.model_copy(update={"metadata": transformed.metadata.model_copy(update={"name": "a" * 52})})
    assert paths(long) == ["metadata.name"]


def test_namespaces() -> None:
    assert paths(service(metadata={"namespace": "team-1"})) == []
    assert paths(service(metadata={"namespace": "Team"})) == ["metadata.namespace"]


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("autoscalerClass", ["penstock", "hpa", "keda", "external", "none"], ["kpa", ""]),
        ("targetUtilizationPercentage", ["1", "100"], ["0", "101", "x", "-1", "٣"]),
        ("stop", ["true", "false"], ["yes", ""]),
    ],
)
def test_annotations(key: str, good: list[str], bad: list[str]) -> None:
    name = f"serving.kserve.io/{key}"
    for value in good:
        assert paths(service(metadata={"annotations": {name: value}})) == []
    for value in bad if key != "targetUtilizationPercentage" else bad[:-1]:
        assert paths(service(metadata={"annotations": {name: value}})) == [f"metadata.annotations.{name}"]


def test_exactly_one_source_of_the_model() -> None:
    assert paths(described(predictor={})) == ["spec.predictor"]
    assert paths(described(predictor=MODEL | {"sklearn": {}})) == ["spec.predictor"]
    assert paths(described(predictor={"sklearn": {}, "onnx": {}})) == ["spec.predictor"]
    assert paths(described(predictor={"sklearn": {}})) == []
    assert paths(described(predictor={"containers": [{"name": "kserve-container"}]})) == []
    assert paths(described(predictor=MODEL | {"containers": [{"name": "side-car"}]})) == []


@pytest.mark.parametrize(
    ("fields", "broken"),
    [
        ({"minReplicas": 0}, []),
        ({"minReplicas": -1}, ["minReplicas"]),
        ({"maxReplicas": -1}, ["maxReplicas"]),
        ({"minReplicas": 2, "maxReplicas": 2}, []),
        ({"minReplicas": 2, "maxReplicas": 0}, []),
        ({"minReplicas": 3, "maxReplicas": 2}, ["minReplicas"]),
        ({"containerConcurrency": 0, "timeout": 1}, []),
        ({"containerConcurrency": -1}, ["containerConcurrency"]),
        ({"timeout": 0}, ["timeout"]),
        ({"canaryTrafficPercent": 0}, []),
        ({"canaryTrafficPercent": 100}, []),
        ({"canaryTrafficPercent": 101}, ["canaryTrafficPercent"]),
        ({"canaryTrafficPercent": -1}, ["canaryTrafficPercent"]),
        ({"terminationGracePeriodSeconds": -1}, ["terminationGracePeriodSeconds"]),
        ({"scaleMetric": "rps", "scaleTarget": 500}, []),
        ({"scaleMetric": "tokens"}, ["scaleMetric"]),
        ({"scaleTarget": 0}, ["scaleTarget"]),
        ({"scaleTarget": "5"}, ["scaleTarget"]),
        ({"scaleMetric": "cpu", "scaleTarget": 100}, []),
        ({"scaleMetric": "cpu", "scaleTarget": 101}, ["scaleTarget"]),
        ({"workerSpec": {"tensorParallelSize": 1}}, []),
        ({"workerSpec": {"tensorParallelSize": 0}}, ["workerSpec.tensorParallelSize"]),
        ({"workerSpec": {"pipelineParallelSize": -2}}, ["workerSpec.pipelineParallelSize"]),
    ],
)
def test_numbers(fields: dict[str, Any], broken: list[str]) -> None:
    assert paths(service(**fields)) == [f"spec.predictor.{field}" for field in broken]


@pytest.mark.parametrize(
    ("fields", "broken"),
    [
        ({"protocolVersion": "v1"}, []),
        ({"protocolVersion": "grpc-v2"}, []),
        ({"protocolVersion": "v3"}, ["protocolVersion"]),
        ({"storageUri": "hf://org/name"}, []),
        ({"storageUri": "s3://bucket/a..b"}, []),
        ({"storageUri": "/models/a"}, []),
        ({"storageUri": "ftp://host/a"}, ["storageUri"]),
        ({"storageUri": "models/a"}, ["storageUri"]),
        ({"storageUri": "hf://"}, ["storageUri"]),
        ({"storageUri": ""}, ["storageUri"]),
        ({"storageUri": "/models/../etc"}, ["storageUri"]),
        ({"storageUri": "pvc://claim/.."}, ["storageUri"]),
        ({"storage": {"path": "a/b"}}, []),
        ({"storage": {"key": "k"}}, []),
        ({"storage": {"path": "../a"}}, ["storage.path"]),
        ({"storageUri": "hf://a/b", "storage": {"path": "a"}}, ["storageUri"]),
        ({"env": [{"name": "HF_HOME", "value": "/x"}]}, []),
        ({"env": [{"name": "A"}, {"name": "PYTHONPATH", "value": "/x"}]}, ["env[1].name"]),
    ],
)
def test_models(fields: dict[str, Any], broken: list[str]) -> None:
    assert paths(service(model=fields)) == [f"spec.predictor.model.{field}" for field in broken]


def test_canaries() -> None:
    def canaries(*shares: int | None) -> list[str]:
        listed = [{"predictor": MODEL} | ({} if s is None else {"trafficPercent": s}) for s in shares]
        return paths(described(predictor=MODEL, canary=listed))

    assert canaries(10, None, 90) == []
    assert canaries(60, 41) == ["spec.canary"]
    assert canaries(-1) == ["spec.canary[0].trafficPercent"]
    assert canaries(101) == ["spec.canary[0].trafficPercent", "spec.canary"]
    bad = {"predictor": {"onnx": {"storageUri": "x"}}}
    assert paths(described(predictor=MODEL, canary=[bad])) == ["spec.canary[0].predictor.onnx.storageUri"]


def test_a_problem_reads_as_a_sentence() -> None:
    (problem,) = problems(service(minReplicas=-1))
    assert str(problem) == "spec.predictor.minReplicas: -1 is not allowed; it must be a whole number of 0 or more"
