"""Launches and the catalog of local engines."""

from dataclasses import replace
from importlib import import_module

import pytest

from engines.catalog import ALIASES, CODE, ENGINES, LocalEngine
from engines.launch import PORT, Launch
from serving.container import Container
from serving.validation import SpecError

ENGINE = LocalEngine(command=("engine", "serve"), env=(("A", "own"),), modules=("torch", "os"), extra="huggingface")


def container(**fields: object) -> Container:
    return Container.model_validate(fields)


def test_the_port_is_filled_in_everywhere() -> None:
    launch = Launch(argv=("a", f"--port={PORT}", PORT), env=(("URL", f"http://h:{PORT}"),))
    filled = launch.at(81)
    assert filled.argv == ("a", "--port=81", "81")
    assert filled.env == (("URL", "http://h:81"),)
    assert launch.argv[1] == f"--port={PORT}"


def test_the_engines_own_program_is_run_with_the_services_arguments_and_our_address_last() -> None:
    launch = ENGINE.launch(container(args=["--port=9"], env=[{"name": "B", "value": "1"}]), "/models/a")
    assert launch.argv == (
        *("engine", "serve", "--model_dir", "/models/a", "--port=9"),
        *("--host", "127.0.0.1", "--port", PORT),
    )
    assert launch.env == (("A", "own"), ("B", "1"))


def test_a_command_of_the_services_own_is_run_as_it_is() -> None:
    launch = ENGINE.launch(container(command=["mine"], args=["--x"]), "s3://ignored/by-it", drain_s=3.0)
    assert launch.argv == ("mine", "--x", "--host", "127.0.0.1", "--port", PORT)
    assert launch.env == ()
    assert launch.drain_s == 3.0


def test_the_drain_time_is_told_to_an_engine_that_has_a_flag_for_it() -> None:
    drained = replace(ENGINE, drain_flag="--drain")
    launch = drained.launch(container(args=["--x"]), None, drain_s=60.0)
    assert launch.argv[:5] == ("engine", "serve", "--drain", "58", "--x")
    assert launch.drain_s == 60.0
    assert "--drain" not in drained.launch(container(), None).argv
    assert drained.launch(container(), None, drain_s=1.0).argv[3] == "0"


def test_values_from_the_cluster_are_left_to_the_environment() -> None:
    env = [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "E"}]
    assert dict(ENGINE.launch(container(env=env), None).env) == {"A": "own", "E": ""}


@pytest.mark.parametrize(
    ("uri", "flags"),
    [
        (None, ()),
        ("/m/a", ("--model_dir", "/m/a")),
        ("file:///m/a", ("--model_dir", "/m/a")),
        ("hf://org/name", ("--model_id", "org/name")),
        ("hf://org/name:main", ("--model_id", "org/name", "--model_revision", "main")),
    ],
)
def test_where_the_weights_are(uri: str | None, flags: tuple[str, ...]) -> None:
    assert ENGINE.source(uri) == flags


@pytest.mark.parametrize("uri", ["s3://a/b", "pvc://a/b", "oci://a", "gs://a"])
def test_weights_that_only_a_cluster_can_bring(uri: str) -> None:
    with pytest.raises(SpecError, match="cannot be fetched on this machine"):
        ENGINE.source(uri)


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ((), "service"),
        (("--model_name=a",), "a"),
        (("--model_name", "a"), "a"),
        (("--model_name=a", "--x", "--model_name", "b"), "b"),
        (("--x", "--model_name="), "service"),
        (("--model_name",), "service"),
        (("--model_names=a",), "service"),
    ],
)
def test_the_name_an_engine_answers_to(args: tuple[str, ...], name: str) -> None:
    assert ENGINE.served_name(args, "service") == name


def test_what_is_not_installed_is_told_with_what_installs_it() -> None:
    assert ENGINE.missing(lambda _: True) is None
    assert ENGINE.missing(lambda name: name != "torch") == (
        'torch is not installed; install them with: pip install "penstock[huggingface]"'
    )
    assert "torch, os are not installed" in (ENGINE.missing(lambda _: False) or "")


def test_every_engine_of_the_catalog_can_be_run() -> None:
    for engine in ENGINES.values():
        assert engine.command[1] == "-m"
        import_module(engine.command[2])
        assert engine.env == (("PYTHONPATH", CODE),)
    assert set(ALIASES.values()) <= set(ENGINES)
