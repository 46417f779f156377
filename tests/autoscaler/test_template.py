"""A service laid over its runtime."""

from typing import Any

import pytest

from autoscaler.revision import revision
from autoscaler.template import PodTemplate, fill, merge, template, with_tag
from serving.inference_service import InferenceService
from serving.validation import SpecError
from tests.autoscaler.samples import runtime, service


def pod(container: dict[str, Any] | None = None, **model: Any) -> PodTemplate:
    return template(service(model=model), runtime(container=container))


def test_arguments_are_concatenated_the_runtimes_first() -> None:
    assert pod({"args": ["--a"]}, args=["--b"]).container.args == ("--a", "--b")
    assert pod({"args": ["--a"]}).container.args == ("--a",)
    assert pod(args=["--b"]).container.args == ("--b",)


def test_other_fields_follow_the_strategic_merge() -> None:
    found = pod(
        {
            "command": ["a"],
            "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}],
            "ports": [{"containerPort": 8080, "name": "http"}],
            "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
            "workingDir": "/a",
        },
        command=["b"],
        env=[{"name": "Y", "value": "2"}, {"name": "Z", "value": "2"}],
        ports=[{"containerPort": 8080, "protocol": "TCP"}],
        resources={"limits": {"cpu": "2"}, "requests": {"cpu": 1}},
        volumeMounts=[{"mountPath": "/m"}],
        imagePullPolicy="Always",
    ).container
    assert found.command == ("b",)
    assert {e.name: e.value for e in found.env} == {"X": "1", "Y": "2", "Z": "2"}
    assert found.ports == ({"containerPort": 8080, "name": "http", "protocol": "TCP"},)
    assert found.resources.limits == {"cpu": "2", "memory": "1Gi"}
    assert found.resources.requests == {"cpu": 1}
    assert found.volume_mounts == ({"mountPath": "/m"},)
    assert found.model_extra == {"workingDir": "/a", "imagePullPolicy": "Always"}


def test_merge_leaves_what_is_below_unchanged() -> None:
    below = {"resources": {"limits": {"cpu": 1}}, "args": ["a"]}
    merge(below, {"resources": {"limits": {"cpu": 2}}, "args": ["b"]})
    assert below == {"resources": {"limits": {"cpu": 1}}, "args": ["a"]}


def test_placeholders_are_filled_throughout() -> None:
    of = service("demo", metadata={"namespace": "n", "labels": {"l": "L"}, "annotations": {"a": "A"}})
    given = {
        "args": ["--x={{.Name}}.{{ .Namespace }}", "{{.Labels.l}}-{{.Annotations.a}}"],
        "n": 3,
        "t": ("{{.Name}}",),
    }
    assert fill(given, of) == {"args": ["--x=demo.n", "L-A"], "n": 3, "t": ["demo"]}
    assert fill("{{ messages }} {% if x %}", of) == "{{ messages }} {% if x %}"


@pytest.mark.parametrize("text", ["{{.Labels.x}}", "{{.Annotations.x}}", "{{.Labels}}", "{{.Name.x}}"])
def test_a_placeholder_without_a_value_is_told(text: str) -> None:
    with pytest.raises(SpecError, match="which 'demo' does not have"):
        fill(text, service())


def test_runtime_version_replaces_the_tag_and_never_a_digest() -> None:
    assert with_tag("host:5000/a/b:1", "2") == "host:5000/a/b:2"
    assert with_tag("host:5000/a/b", "2") == "host:5000/a/b:2"
    assert with_tag("b", "2") == "b:2"
    assert with_tag("a/b@sha256:0", "2") == "a/b@sha256:0"
    assert pod(runtimeVersion="7").container.image == "engine:7"
    assert pod({"image": ""}, runtimeVersion="7").container.image == ""


def test_drain_time_and_storage_come_along() -> None:
    found = template(service(model={"storageUri": "/m"}, terminationGracePeriodSeconds=5), runtime())
    assert (found.drain_s, found.storage_uri, found.runtime) == (5.0, "/m", "hf")
    assert pod().drain_s is None


def test_without_a_model_there_is_no_template() -> None:
    own = service().model_dump(by_alias=True, exclude_unset=True)
    own["spec"]["predictor"] = {"containers": [{"name": "c"}]}
    with pytest.raises(ValueError, match="needs a model"):
        template(InferenceService.model_validate(own), runtime())


def test_the_revision_changes_with_what_a_running_pod_cannot_take_on() -> None:
    first = revision(pod(args=["--a"]))
    assert len(first) == 8
    assert revision(pod(args=["--a"])) == first
    changed = [
        pod(args=["--b"]),
        pod(args=["--a"], image="other"),
        pod(args=["--a"], env=[{"name": "A", "value": "1"}]),
        pod(args=["--a"], storageUri="/m"),
        pod(args=["--a"], workingDir="/w"),
        template(service(model={"args": ["--a"]}), runtime("other")),
    ]
    assert len({first, *(revision(p) for p in changed)}) == len(changed) + 1


def test_the_revision_does_not_change_with_what_a_running_pod_never_sees() -> None:
    first = revision(template(service(), runtime()))
    for fields in (
        {"minReplicas": 3},
        {"timeout": 5},
        {"canaryTrafficPercent": 5},
        {"labels": {"a": "b"}},
        {"metadata": {"annotations": {"penstock.dev/model-aliases": "x"}}},
        {"terminationGracePeriodSeconds": 1},
    ):
        assert revision(template(service(**fields), runtime())) == first
