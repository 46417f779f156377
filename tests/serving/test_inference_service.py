"""What can be read off an InferenceService."""

import pytest
from pydantic import ValidationError

from serving.inference_service import Predictor
from serving.runtime import SupportedFormat
from tests.autoscaler.samples import service


def test_title_has_the_namespace_where_it_says_something() -> None:
    assert service("a").title == "a"
    assert service("a", metadata={"namespace": "b"}).title == "b/a"


def test_replicas_default_to_one_and_zero_is_kept() -> None:
    assert service().spec.predictor.wanted_replicas == 1
    assert service(minReplicas=0).spec.predictor.wanted_replicas == 0


def test_the_protocol_follows_the_format() -> None:
    def protocol(**model: object) -> str:
        served = service(model=model).spec.predictor.served
        assert served is not None
        return served.protocol

    assert protocol() == "v2"
    assert protocol(modelFormat={"name": "VLLM"}) == "v2"
    assert protocol(modelFormat={"name": "sklearn"}) == "v1"
    assert protocol(protocolVersion="v1") == "v1"


def test_aliases_are_cleaned() -> None:
    given = {"annotations": {"penstock.dev/model-aliases": " a, b ,,a"}}
    assert service(metadata=given).aliases == ("a", "b")
    assert service().aliases == ()


def test_stopped() -> None:
    assert service(metadata={"annotations": {"serving.kserve.io/stop": "true"}}).stopped
    assert not service().stopped


def test_containers_of_its_own_hold_no_model() -> None:
    assert Predictor.model_validate({"containers": [{"name": "c"}]}).served is None


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(ValidationError):
        Predictor.model_validate(3)


def test_an_object_that_was_read_is_read_again() -> None:
    before = Predictor.model_validate({"sklearn": {"storageUri": "/a"}})
    assert Predictor.model_validate(before.model_dump(by_alias=True, exclude_unset=True)) == before


@pytest.mark.parametrize(
    ("name", "version", "fits"),
    [("vllm", None, True), ("vLLM", "1", True), ("vllm", "2", False), ("other", None, False)],
)
def test_formats_match_in_any_case_and_by_version_where_one_is_given(
    name: str, version: str | None, fits: bool
) -> None:
    assert SupportedFormat.model_validate({"name": "vLLM", "version": "1"}).matches(name, version) is fits
