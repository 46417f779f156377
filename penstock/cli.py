"""The command line. Each command imports what it needs when it is called, so that `--help` is quick."""

from pathlib import Path
from typing import Annotated

import typer

from penstock import __version__
from penstock.failure import Failure, plain_errors

app = typer.Typer(
    help="Serve large language models: an OpenAI-compatible gateway, and the engines behind it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys_app = typer.Typer(help="API keys of a gateway.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

LEVELS = ("debug", "info", "warning", "error")
URL = "http://127.0.0.1:8080"

StateOption = Annotated[
    Path,
    typer.Option(help="Where logs, lock and socket are.", envvar="PENSTOCK_STATE", file_okay=False),
]
FilesOption = Annotated[
    list[Path], typer.Option("--file", "-f", help="A file of InferenceServices. May be given several times.")
]
PortOption = Annotated[int, typer.Option(help="The gateway's port; 0 takes a free one.", min=0, max=65535)]
HostOption = Annotated[str, typer.Option(help="The address the gateway listens on; 0.0.0.0 for all.")]
KeysOption = Annotated[
    Path | None,
    typer.Option(help="A file of API keys (penstock keys create). Without it anyone may call."),
]
LevelOption = Annotated[str, typer.Option(help=f"How much is logged: {', '.join(LEVELS)}.")]
UrlOption = Annotated[str, typer.Option(help="The gateway's URL.", envvar="PENSTOCK_URL")]
KeyOption = Annotated[str | None, typer.Option(help="Your API key.", envvar="PENSTOCK_API_KEY", show_envvar=True)]
STATE = Path(".penstock")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def up(
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help="A file of InferenceServices (repeatable). Default: the demo."),
    ] = None,
    port: PortOption = 8080,
    host: HostOption = "127.0.0.1",
    state: StateOption = STATE,
    log_level: LevelOption = "info",
    keys: KeysOption = None,
    ask: Annotated[str | None, typer.Option(help="Ask the first model this once it is ready.")] = None,
    key: KeyOption = None,
) -> None:
    """Start engines and a gateway on this machine, and serve until Ctrl-C.

    Files are watched: a change is applied with no request lost. A crashed engine is started again.
    """
    from gateway.config import settings_of
    from penstock.bundled import demo_file
    from penstock.up import UpOptions
    from penstock.up import up as run

    if ask and keys and not key:
        raise Failure("--ask with --keys needs a key to ask with: set PENSTOCK_API_KEY or give --key")
    with plain_errors():
        settings = settings_of(
            {
                "host": host,
                "port": port,
                "keys_file": keys,
                "log": {"level": _level(log_level), "access": True},
            }
        )
    files = tuple(file) if file else (demo_file(),)
    raise typer.Exit(run(UpOptions(files, settings, state, ask, key)))


@app.command()
def plan(file: FilesOption, state: StateOption = STATE) -> None:
    """Print what `apply` (or `up`) would do with these files, and why. Changes nothing."""
    from penstock.local import plan as run

    run(file, state)


@app.command()
def apply(file: FilesOption, state: StateOption = STATE) -> None:
    """Hand services to a running `penstock up`: new ones start, changed ones are rolled over."""
    from penstock.local import apply as run

    run(file, state)


@app.command()
def get(
    state: StateOption = STATE,
    json: Annotated[bool, typer.Option("--json", help="All, as JSON.")] = False,
) -> None:
    """List the services of a running `penstock up`."""
    from penstock.local import get as run

    run(state, json)


@app.command()
def delete(
    service: Annotated[str, typer.Argument(help="Its name, or NAMESPACE/NAME.")], state: StateOption = STATE
) -> None:
    """Drain a service of a running `penstock up` and end its engines."""
    from penstock.local import delete as run

    run(service, state)


@app.command()
def logs(
    service: Annotated[str, typer.Argument(help="Its name, or NAMESPACE/NAME.")],
    state: StateOption = STATE,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=0)] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on with what comes.")] = False,
) -> None:
    """Print the output of a service's engines, also after `penstock up` has ended."""
    from penstock.local import logs as run

    run(service, state, lines, follow)


@app.command()
def chat(
    model: Annotated[str | None, typer.Argument(help="Whom to talk to. Default: the first model.")] = None,
    url: UrlOption = URL,
    key: KeyOption = None,
) -> None:
    """Talk to a model in the terminal. Reads questions from standard input when that is not a terminal."""
    import sys

    from penstock.chat import Chat, at_terminal, converse
    from penstock.client import Client

    client = Client(url, key)
    chosen = model or _first_model(client.models(), url)
    conversation = Chat(client, chosen, sys.stdout, lambda text: typer.echo(text, err=True))
    converse(conversation, sys.stdin, at_terminal())


@app.command()
def models(url: UrlOption = URL, key: KeyOption = None) -> None:
    """List the models a gateway serves."""
    from penstock.client import Client
    from penstock.tables import models_table, show

    show(models_table(Client(url, key).models()))


@app.command()
def gateway(
    config: Annotated[Path | None, typer.Option(help="A settings file (see docs/gateway.md).")] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="NAME=URL of an engine; one name several times is one model.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8080, or the file's.", min=0, max=65535)] = None,
    host: Annotated[str | None, typer.Option(help="Default: 127.0.0.1, or the file's.")] = None,
    keys: KeysOption = None,
    log_level: Annotated[str | None, typer.Option(help=f"How much is logged: {', '.join(LEVELS)}.")] = None,
) -> None:
    """Run only the gateway, in front of engines that run already."""
    from gateway.config import load_settings, settings_of_engines
    from gateway.server import run

    if (config is None) == (not engine):
        raise Failure("give --config FILE, or --engine NAME=URL once or several times")
    flags: dict[str, object] = {"host": host, "port": port, "keys_file": keys}
    with plain_errors():
        settings = load_settings(config) if config is not None else settings_of_engines(engine or [])
        if log_level is not None:
            flags["log"] = settings.log.model_copy(update={"level": _level(log_level)})
        run(settings.model_copy(update={name: value for name, value in flags.items() if value is not None}))


@keys_app.command("create")
def create_key(
    file: Annotated[Path, typer.Option(help="The keys file; it is made if there is none.")],
    tenant: Annotated[str, typer.Option(help="Whom the key is for.")] = "default",
) -> None:
    """Make an API key: it is printed once, and its hash is added to the file."""
    from gateway.keys import create_key as make

    with plain_errors():
        typer.echo(make(file, tenant))


def _first_model(models: list[dict[str, object]], url: str) -> str:
    if not models:
        raise Failure(f"{url} serves no model")
    return str(models[0].get("id"))


def _level(name: str) -> str:
    if name.lower() not in LEVELS:
        raise Failure(f"--log-level: {name!r} is not allowed; it must be one of {', '.join(LEVELS)}")
    return name.lower()
