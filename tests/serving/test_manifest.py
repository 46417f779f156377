"""Manifest text: what is read, and how mistakes are told."""

from textwrap import indent

import pytest

from serving.manifest import parse_runtimes, parse_services
from serving.validation import SpecError

DEMO = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: demo, creationTimestamp: 2024-01-01T00:00:00Z, managedFields: []}
spec:
  predictor:
    minReplicas: 1
    tolerations: [{key: gpu}]
    model:
      modelFormat: {name: huggingface}
      args: [--model_name=demo]
      resources: {limits: {cpu: 1, memory: 2Gi}}
"""

RUNTIME = """
apiVersion: serving.kserve.io/v1alpha1
kind: ClusterServingRuntime
metadata: {name: hf}
spec:
  supportedModelFormats: [{name: huggingface, autoSelect: true}]
  containers: [{name: kserve-container, image: x}]
"""


def told(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_services(text, "a.yaml")
    return str(caught.value)


def test_a_service_is_read() -> None:
    (service,) = parse_services(DEMO, "a.yaml")
    assert service.key == ("default", "demo")
    assert service.spec.predictor.served is not None
    assert service.spec.predictor.served.args == ("--model_name=demo",)
    assert (service.metadata.model_extra or {})["creationTimestamp"] == "2024-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "minReplicas: 1",
            "minReplica: 1",
            "spec.predictor.minReplica: no such field; did you mean minReplicas?",
        ),
        ("minReplicas: 1", "zzz: 1", "spec.predictor.zzz: no such field; allowed: "),
        (
            "minReplicas: 1",
            "minReplicas: '1'",
            "spec.predictor.minReplicas: '1' is not allowed; it must be",
        ),
        (
            "minReplicas: 1",
            "minReplicas: 1.5",
            "spec.predictor.minReplicas: 1.5 is not allowed; it must be",
        ),
        ("minReplicas: 1", "minReplicas: true", "spec.predictor.minReplicas: True is not allowed"),
        (
            "minReplicas: 1",
            "minReplicas: -1",
            "spec.predictor.minReplicas: -1 is not allowed; it must be",
        ),
        (
            "[--model_name=demo]",
            "[--port, 8]",
            "spec.predictor.model.args[1]: 8 is not allowed; it must be a",
        ),
        ("[--model_name=demo]", "5", "spec.predictor.model.args: 5 is not allowed; it must be a list"),
        ("{name: huggingface}", "{}", "spec.predictor.model.modelFormat.name: is missing; it is required"),
        ("      modelFormat: {name: huggingface}\n", "", "spec.predictor.model.modelFormat: is missing"),
        (
            "modelFormat: {name: huggingface}",
            "modelFormat: 3",
            "spec.predictor.model.modelFormat: 3 is not allowed",
        ),
        (
            "cpu: 1",
            "cpu: []",
            "resources.limits.cpu: [] is not allowed; it must be a quantity, such as 2",
        ),
        ("name: demo,", "name: Demo,", "metadata.name: 'Demo' is not allowed; it must be lower-case"),
        ("name: demo,", "name: demo, labels: {1: a},", "metadata.labels[1]: 1 is not allowed; it must be a str"),
        ("name: demo,", 'name: "\\ud800",', "metadata.name: "),
        ("name: demo,", "name: 3,", "metadata.name: 3 is not allowed; it must be a string"),
        ("kind: Inf", "kind: X", "kind: 'XerenceService' is not read here; it must be InferenceService"),
        ("kind: InferenceService", "", "kind: nothing is not read here"),
        ("v1beta1", "v1", "apiVersion: 'serving.kserve.io/v1' is not known for InferenceService"),
        ("  predictor:", "  predictr:", "spec.predictr: no such field; did you mean predictor?"),
        ("spec:", "spec: {}\nspec:", "not valid YAML: the key 'spec' stands twice (line "),
        ("spec:", "spec: [", "not valid YAML"),
        ("spec:", "!!python/object:os.system {}:", "not valid YAML"),
    ],
)
def test_a_mistake_is_told_by_path_value_and_what_is_allowed(before: str, after: str, message: str) -> None:
    assert before in DEMO
    text = told(DEMO.replace(before, after, 1))
    assert text.startswith("a.yaml: ")
    assert message in text
    assert len(text.splitlines()) == 1


def test_several_mistakes_are_told_at_once() -> None:
    text = told(DEMO.replace("minReplicas: 1", "minReplicas: 3\n    maxReplicas: 2\n    timeout: 0"))
    assert [line.split(": ")[1] for line in text.splitlines()] == [
        "spec.predictor.minReplicas",
        "spec.predictor.timeout",
    ]


def test_a_framework_key_is_read_as_a_model_and_named_as_written_in_errors() -> None:
    (service,) = parse_services(DEMO.replace("model:", "sklearn:", 1), "a.yaml")
    assert service.spec.predictor.served is not None
    text = DEMO.replace("model:", "sklearn:", 1).replace("      modelFormat: {name: huggingface}\n", "")
    (service,) = parse_services(text, "a.yaml")
    model = service.spec.predictor.served
    assert model is not None
    assert (model.model_format.name, model.protocol) == ("sklearn", "v1")
    assert "spec.predictor.sklearn.args[0]: 3" in told(text.replace("[--model_name=demo]", "[3]"))
    assert "spec.predictor.sklearn: 3 is not allowed" in told(
        "\n".join([*DEMO.split("    model:")[:1], "    sklearn: 3"])
    )


def test_several_documents_and_lists() -> None:
    other = DEMO.replace("name: demo,", "name: other,")
    assert [s.key[1] for s in parse_services(f"{DEMO}---\n---\n{other}", "a.yaml")] == ["demo", "other"]
    assert len(parse_services("kind: List\nitems:\n  -\n" + indent(DEMO, "    "), "a.yaml")) == 1
    assert "a.yaml, document 2: metadata.name: 'demo' is in the file twice" in told(f"{DEMO}---\n{DEMO}")
    assert "a.yaml, document 2: kind: 'Pod'" in told(f"{DEMO}---\nkind: Pod")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml: no InferenceService in it"),
        ("- 1", "a.yaml: [1] is not a manifest"),
        ("just text", "a.yaml: 'just text' is not a manifest"),
        ("'" + "x" * 200 + "'", "..."),
        ("&a [*a]", "is not a manifest"),
        ("[" * 5000, "not valid YAML"),
        ("\x00", "not valid YAML"),
        ("? [a]\n: b", "not valid YAML"),
    ],
)
def test_text_that_is_no_manifest(text: str, message: str) -> None:
    assert message in told(text)


def test_merge_keys_and_anchors_of_yaml_work() -> None:
    text = DEMO.replace("limits: {cpu: 1, memory: 2Gi}", "limits: &l {cpu: 1}, requests: {<<: *l}")
    (service,) = parse_services(text, "a.yaml")
    assert service.spec.predictor.served is not None
    assert service.spec.predictor.served.resources.requests == {"cpu": 1}


def test_runtimes_are_read() -> None:
    (runtime,) = parse_runtimes(RUNTIME, "r.yaml")
    assert runtime.for_all_namespaces
    assert runtime.container.image == "x"
    for before, after, message in (
        ("kserve-container", "other", "spec.containers needs one named kserve-container"),
        ("ClusterServingRuntime", "Pod", "must be ServingRuntime or ClusterServingRuntime"),
        ("  containers: [{name: kserve-container, image: x}]", "", "spec.containers: is missing"),
    ):
        with pytest.raises(SpecError, match=message):
            parse_runtimes(RUNTIME.replace(before, after), "r.yaml")
