"""What ships in the package fits together."""

import pytest

from autoscaler.local.accept import accept, launch_of
from autoscaler.template import template
from engines.catalog import ALIASES, ENGINES
from penstock.bundled import demo_file, runtimes
from serving.manifest import parse_services
from tests.autoscaler.local.conftest import HOST
from tests.autoscaler.samples import service


def test_the_demo_is_served_by_our_engine_under_its_name() -> None:
    (demo,) = parse_services(demo_file().read_text(), "demo.yaml")
    found = accept(demo, runtimes(), ENGINES, HOST)
    assert (found.runtime.metadata.name, found.model_name) == ("penstock-huggingface", "demo")
    launch = launch_of(template(demo, found.runtime), found.engine, demo)
    assert launch.argv[1:3] == ("-m", "engines.huggingface")
    assert "--model_id=penstock/demo" in launch.argv


def test_every_runtime_that_ships_can_run_here() -> None:
    assert {r.metadata.name for r in runtimes()} == set(ENGINES)
    assert set(ALIASES) < set(ENGINES)


@pytest.mark.parametrize("name", [None, "kserve-huggingfaceserver"])
def test_a_manifest_written_for_kserve_runs_unchanged(name: str | None) -> None:
    model = {
        "storageUri": "hf://meta-llama/Llama-3.1-8B-Instruct",
        "args": ["--model_name=llama3"],
        "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}],
        "resources": {"limits": {"cpu": "6", "memory": "24Gi", "nvidia.com/gpu": "1"}},
    } | ({"runtime": name} if name else {})
    host = HOST.__class__({"HF_TOKEN": "x"}, HOST.has_module, HOST.has_program, HOST.has_folder)
    of = service("huggingface-llama3", model=model)
    found = accept(of, runtimes(), ENGINES, host)
    assert found.models == ("llama3", "huggingface-llama3")
    argv = launch_of(template(of, found.runtime), found.engine, of).argv
    assert argv[3:6] == ("--model_id", "meta-llama/Llama-3.1-8B-Instruct", "--model_name=huggingface-llama3")
