"""Which runtime serves a model."""

from typing import Any

import pytest

from autoscaler.select import NoRuntimeError, select
from serving.inference_service import InferenceService
from serving.runtime import ServingRuntime
from tests.autoscaler.samples import runtime, service


def chosen(runtimes: list[ServingRuntime], **model: Any) -> str:
    return select(service(model=model), runtimes)[0].metadata.name


def refused(of: InferenceService, *runtimes: ServingRuntime) -> tuple[str, str]:
    with pytest.raises(NoRuntimeError) as caught:
        select(of, runtimes)
    return caught.value.word, str(caught.value)


def formats(**fields: Any) -> dict[str, Any]:
    return {"supportedModelFormats": [{"name": "huggingface", "autoSelect": True} | fields]}


def test_the_only_one_that_fits() -> None:
    other = runtime("other", supportedModelFormats=[{"name": "onnx", "autoSelect": True}])
    found, reason = select(service(), [other, runtime("hf")])
    assert found.metadata.name == "hf"
    assert reason == "runtime hf serves model format 'huggingface' over v2"


def test_the_namespace_comes_before_the_cluster_whatever_the_priority() -> None:
    own = runtime("own", kind="ServingRuntime")
    foreign = runtime("foreign", kind="ServingRuntime", metadata={"namespace": "other"}, **formats(priority=9))
    assert chosen([runtime("all", **formats(priority=5)), foreign, own]) == "own"


def test_priority_then_age_then_name() -> None:
    def dated(name: str, day: int, **spec: Any) -> ServingRuntime:
        return runtime(name, metadata={"creationTimestamp": f"2026-01-0{day}T00:00:00Z"}, **spec)

    assert chosen([runtime("a"), runtime("b", **formats(priority=1)), runtime("c", **formats(priority=2))]) == "c"
    assert chosen([runtime("a"), runtime("b", **formats(priority=0))]) == "b"
    assert chosen([dated("a", 1), dated("b", 3), dated("c", 2)]) == "b"
    assert chosen([dated("b", 1), dated("a", 1), runtime("0")]) == "a"


def test_a_named_runtime_wins_and_needs_no_auto_select() -> None:
    plain = runtime("plain", **formats(autoSelect=False))
    assert chosen([runtime("hf"), plain], runtime="plain") == "plain"
    found, reason = select(service(model={"runtime": "hf"}), [runtime("hf"), runtime("hf", kind="ServingRuntime")])
    assert not found.for_all_namespaces
    assert reason == "runtime hf is the one that the service names"


@pytest.mark.parametrize(
    ("spec", "model", "word", "message"),
    [
        ({"disabled": True}, {}, "RuntimeDisabled", "it is disabled"),
        ({"multiModel": True}, {}, "NoSupportingRuntime", "many models per pod"),
        (formats(name="onnx"), {}, "NoSupportingRuntime", "does not serve model format 'huggingface'"),
        (
            formats(version="1"),
            {"modelFormat": {"name": "huggingface", "version": "2"}},
            "NoSupportingRuntime",
            "does not serve model format 'huggingface' version '2'",
        ),
        ({"protocolVersions": ["v1"]}, {}, "NoSupportingRuntime", "it speaks v1, not v2"),
        ({"workerSpec": {}}, {}, "NoSupportingRuntime", "it is for several nodes"),
    ],
)
def test_a_named_runtime_that_does_not_fit(
    spec: dict[str, Any], model: dict[str, Any], word: str, message: str
) -> None:
    found, text = refused(service(model={"runtime": "hf"} | model), runtime("hf", **spec))
    assert found == word
    assert text.startswith("spec.predictor.model.runtime: 'hf' cannot be used: ")
    assert message in text
    assert refused(service(model=model), runtime("hf", **spec))[0] == "NoSupportingRuntime"


def test_workers_need_a_runtime_for_several_nodes() -> None:
    many = service(workerSpec={"tensorParallelSize": 2}, model={"runtime": "hf"})
    assert "the service has a workerSpec" in refused(many, runtime("hf"))[1]
    assert select(many, [runtime("hf", workerSpec={})])[0].metadata.name == "hf"


def test_nothing_fits() -> None:
    wanted = service(model={"modelFormat": {"name": "onnx", "version": "2"}})
    word, text = refused(wanted, runtime("hf"), runtime("off", disabled=True, **formats(name="off")))
    assert word == "NoSupportingRuntime"
    assert text == (
        "spec.predictor.model.modelFormat: no runtime serves 'onnx' version '2' over v2; "
        "formats that are served: huggingface"
    )
    assert "formats that are served: none" in refused(service())[1]


def test_an_unknown_name_lists_what_there_is() -> None:
    word, text = refused(service(model={"runtime": "x"}), runtime("b"), runtime("a"))
    assert word == "RuntimeNotRecognized"
    assert text == "spec.predictor.model.runtime: 'x' does not exist; there are: a, b"
    assert "there are: none" in refused(service(model={"runtime": "x"}))[1]


def test_a_service_without_a_model_has_no_runtime() -> None:
    own = service().model_dump(by_alias=True, exclude_unset=True)
    own["spec"]["predictor"] = {"containers": [{"name": "kserve-container"}]}
    assert refused(InferenceService.model_validate(own), runtime())[0] == "InvalidPredictorSpec"
