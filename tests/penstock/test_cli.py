"""The command line itself, without running anything."""

import pytest
from typer.testing import CliRunner

from penstock import __version__
from penstock.cli import app
from penstock.failure import Failure, plain_errors

COMMANDS = ("up", "plan", "apply", "get", "delete", "logs", "chat", "models", "gateway", "keys")


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"penstock {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    ran = CliRunner().invoke(app, [command, "--help"])
    assert ran.exit_code == 0
    assert "Usage" in ran.output


def test_the_list_of_commands_is_complete() -> None:
    ran = CliRunner().invoke(app, ["--help"])
    assert all(f" {command} " in ran.output for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["up", "--port", "x"], ["up", "--port", "70000"], ["plan"], ["logs"], ["keys", "create"]],
)
def test_wrong_usage_is_exit_code_two(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a wrong value"), "a wrong value"),
        (FileNotFoundError(2, "No such file", "f"), "f: No such file"),
        (OSError(98, "cannot listen"), "cannot listen"),
    ],
)
def test_errors_that_explain_themselves_become_failures(error: Exception, text: str) -> None:
    with pytest.raises(Failure) as caught, plain_errors():
        raise error
    assert (str(caught.value), caught.value.status) == (text, 1)
