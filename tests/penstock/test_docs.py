"""The pages about local mode say what the code does."""

import re
from pathlib import Path

import pytest
import typer

from autoscaler.local.accept import accept
from autoscaler.local.backoff import Backoff
from engines.catalog import ENGINES
from engines.launch import Launch
from penstock.bundled import runtimes
from penstock.cli import app
from serving.manifest import parse_services
from tests.autoscaler.local.conftest import HOST

DOCS = Path(__file__).parents[2] / "docs"
CLI = (DOCS / "cli.md").read_text()
LOCAL = (DOCS / "local.md").read_text()


def options(command: str) -> list[str]:
    """The long options of a command."""
    group = typer.main.get_command(app)
    found = getattr(group, "commands", {})[command]
    return [o for p in found.params for o in p.opts if o.startswith("--")]


def test_every_command_and_option_is_on_the_page() -> None:
    commands = getattr(typer.main.get_command(app), "commands", {})
    for name in commands:
        assert f"`penstock {name}" in CLI
    for name in ("up", "plan", "apply", "get", "delete", "logs", "chat", "models", "gateway"):
        for option in options(name):
            assert option in CLI, f"{name} {option}"


def test_every_option_on_the_page_exists() -> None:
    known = {o for name in ("up", "plan", "get", "logs", "chat", "gateway") for o in options(name)}
    known |= {"--help", "--file", "--tenant"}
    assert set(re.findall(r"--[a-z][a-z-]*", CLI)) <= known


def test_the_service_on_the_page_runs() -> None:
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", LOCAL, re.DOTALL) if "InferenceService" in block]
    (service,) = parse_services(text, "local.md")
    host = HOST.__class__({"HF_TOKEN": "x"}, HOST.has_module, HOST.has_program, HOST.has_folder)
    assert accept(service, runtimes(), ENGINES, host).models == ("llama", "gpt-4", "assistant")


@pytest.mark.parametrize(
    "figure",
    [
        f"{Backoff().first_s:g} s, {Backoff().delay_s(2):g} s, {Backoff().delay_s(3):g} s",
        f"at most {Backoff().most_s:g} s",
        f"after {Backoff().forgive_s:g} s of good service",
        f"within {Launch(argv=()).startup_s / 60:g} minutes",
        f"SIGKILL; {Launch(argv=()).drain_s:g} when absent",
        f"may take {Launch(argv=()).ready.timeout_s:g} s",
    ],
)
def test_the_figures_on_the_page_are_the_defaults(figure: str) -> None:
    assert figure in LOCAL


def test_numbers_in_words() -> None:
    launch = Launch(argv=())
    assert (launch.ready.failures, launch.live.failures, Backoff().loop) == (3, 6, 3)
