"""What can run on this machine, and what is said of the rest."""

from dataclasses import replace
from typing import Any

import pytest

from autoscaler.local.accept import Host, accept, renamed
from autoscaler.local.host import this_host
from engines.catalog import LocalEngine
from serving.inference_service import InferenceService
from serving.validation import SpecError
from tests.autoscaler.local.conftest import HOST
from tests.autoscaler.samples import runtime, service

ENGINES = {"hf": LocalEngine(command=("engine",), modules=("torch",), extra="huggingface")}


def refused(of: InferenceService, host: Host = HOST, **engines: LocalEngine) -> str:
    with pytest.raises(SpecError) as caught:
        accept(of, [runtime()], engines or ENGINES, host)
    return str(caught.value)


def test_names_and_reason() -> None:
    aliases = {"annotations": {"penstock.dev/model-aliases": "gpt-4, demo"}}
    found = accept(service(model={"args": ["--model_name=llm"]}, metadata=aliases), [runtime()], ENGINES, HOST)
    assert found.model_name == "llm"
    assert found.models == ("llm", "demo", "gpt-4")
    assert found.reason.startswith("runtime hf serves")
    assert found.notes == ()


@pytest.mark.parametrize(
    ("predictor", "path"),
    [
        ({"workerSpec": {"tensorParallelSize": 2}}, "spec.predictor.workerSpec"),
        ({"containers": [{"name": "side"}]}, "spec.predictor.containers"),
        ({"model": {"storage": {"key": "k"}}}, "spec.predictor.model.storage"),
    ],
)
def test_parts_that_need_a_cluster(predictor: dict[str, Any], path: str) -> None:
    assert refused(service(**predictor)) == (
        f"demo: {path}: cannot run on this machine without a cluster; leave it out here"
    )


def test_a_transformer_needs_a_cluster() -> None:
    given = service().model_dump(by_alias=True, exclude_unset=True)
    given["spec"]["transformer"] = {"containers": [{"name": "t"}]}
    assert "spec.transformer" in refused(InferenceService.model_validate(given))


def test_no_runtime() -> None:
    assert "no runtime serves 'onnx'" in refused(service(model={"modelFormat": {"name": "onnx"}}))


def test_what_the_machine_does_not_have() -> None:
    assert 'pip install "penstock[huggingface]"' in refused(service(), replace(HOST, has_module=lambda _: False))
    own = service(model={"command": ["mine"]})
    assert "there is no program 'mine'" in refused(own, replace(HOST, has_program=lambda _: False))
    for uri in ("/models/a", "file:///models/a"):
        text = refused(service(model={"storageUri": uri}), replace(HOST, has_folder=lambda _: False))
        assert "spec.predictor.model.storageUri: there is no '/models/a'" in text
    assert "spec.predictor.model.storageUri: 's3://a/b' cannot be fetched" in refused(
        service(model={"storageUri": "s3://a/b"})
    )


def test_a_runtime_without_a_program_here_needs_a_command() -> None:
    assert "there is no program for it on this machine" in refused(service(), other=ENGINES["hf"])
    own = service(model={"command": ["mine"]})
    assert accept(own, [runtime()], {}, HOST).engine == LocalEngine(command=())


def test_secrets_are_taken_from_the_environment() -> None:
    env = [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {}}}]
    of = service(model={"env": env})
    assert "export HF_TOKEN=..." in refused(of)
    assert accept(of, [runtime()], ENGINES, replace(HOST, environ={"HF_TOKEN": "x"}))


def test_what_has_no_effect_is_noted() -> None:
    found = accept(service(minReplicas=0, maxReplicas=3, logger={}, batcher={}), [runtime()], ENGINES, HOST)
    assert [note.split(":")[0] for note in found.notes] == [
        "minReplicas is 0",
        "maxReplicas",
        "spec.predictor.logger has no effect here",
        "spec.predictor.batcher has no effect here",
    ]


def test_an_alias_is_found_by_name_and_not_by_format() -> None:
    both = renamed([runtime("hf")], {"kserve-hf": "hf", "hf": "hf", "lost": "none"})
    assert [r.metadata.name for r in both] == ["hf", "kserve-hf"]
    engines = {**ENGINES, "kserve-hf": ENGINES["hf"]}
    assert accept(service(), both, engines, HOST).runtime.metadata.name == "hf"
    named = accept(service(model={"runtime": "kserve-hf"}), both, engines, HOST)
    assert named.runtime.metadata.name == "kserve-hf"


def test_this_host_knows_what_it_has() -> None:
    host = this_host()
    assert host.has_module("json")
    assert not host.has_module("no_such_module")
    assert host.has_program("sh")
    assert not host.has_program("no-such-program")
    assert host.has_folder("/")
    assert "PATH" in host.environ
