"""`penstock plan|apply|get|delete|logs`: what is asked of a running `penstock up`, or of its files."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from autoscaler.local.control import Answer, Apply, Delete, Get, Request, ask
from autoscaler.local.files import read_text
from autoscaler.local.log_file import logs_of
from autoscaler.local.state import StateDir, StateError
from penstock.failure import Failure
from penstock.logs import follow, last_lines
from penstock.tables import services_table, show
from serving.manifest import parse_services
from serving.validation import SpecError


def plan(files: Sequence[Path], state: Path) -> None:
    """Print what `apply` would do: against what runs, or, where nothing runs, against nothing.

    Raises:
        Failure: a file is wrong, or a service cannot run here.
    """
    directory = StateDir(state)
    for file in files:
        text = _checked_text(file)
        try:
            _print_plans(ask(directory, Apply(text, str(file), dry_run=True)))
        except StateError as error:
            if _is_running(directory):
                raise Failure(str(error)) from error
            _plan_alone(text, str(file))


def apply(files: Sequence[Path], state: Path) -> None:
    """Make the services of the files wanted, and print what that does.

    Raises:
        Failure: a file is wrong, a service cannot run here, or no `penstock up` runs.
    """
    texts = [(_checked_text(file), str(file)) for file in files]
    for text, source in texts:
        _print_plans(_ask(state, Apply(text, source)))


def get(state: Path, as_json: bool) -> None:
    """Print what runs.

    Raises:
        Failure: no `penstock up` runs.
    """
    answer = _ask(state, Get())
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(answer.services)).decode())  # noqa: T201
    elif answer.services:
        show(services_table(sorted(answer.services, key=lambda s: s.name), answer.url))
    else:
        print("No service runs.")  # noqa: T201


def delete(service: str, state: Path) -> None:
    """Drain a service and forget it.

    Raises:
        Failure: there is none of that name, or no `penstock up` runs.
    """
    namespace, slash, name = service.rpartition("/")
    _ask(state, Delete(namespace if slash else "default", name))
    print(f"{service} is being drained and deleted.")  # noqa: T201


def logs(service: str, state: Path, lines: int, followed: bool) -> None:
    """Print the last lines of a service's engines, and what comes after if asked to follow.

    Raises:
        Failure: there are no logs of that name.
    """
    folder = StateDir(state).logs
    paths = logs_of(folder, service)
    if not paths:
        there = ", ".join(sorted({p.stem.rsplit("-", 2)[0] for p in folder.glob("*.log")})) or "none"
        raise Failure(f"there are no logs of {service!r} in {folder}; there are: {there}")
    for line in last_lines(paths, lines):
        print(line)  # noqa: T201
    if followed:
        for line in follow(paths):
            print(line, flush=True)  # noqa: T201


def _ask(state: Path, request: Request) -> Answer:
    try:
        return ask(StateDir(state), request)
    except StateError as error:
        raise Failure(str(error)) from error


def _checked_text(file: Path) -> str:
    """A file's text, read as services once here, so that its mistakes are told without a controller.

    Raises:
        Failure: it cannot be read, or its content is wrong.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else read_text(file)
        parse_services(text, str(file))
        return text
    except SpecError as error:
        raise Failure(str(error)) from error


def _is_running(directory: StateDir) -> bool:
    try:
        ask(directory, Get())
    except StateError:
        return False
    return True


def _plan_alone(text: str, source: str) -> None:
    """The plan for a machine on which nothing runs yet."""
    from autoscaler.local.accept import accept
    from autoscaler.local.host import this_host
    from autoscaler.plan import PlanConfig
    from autoscaler.plan import plan as plan_one
    from engines.catalog import ENGINES
    from penstock.bundled import runtimes

    try:
        known, host = runtimes(), this_host()
        for service in parse_services(text, source):
            accepted = accept(service, known, ENGINES, host)
            planned = plan_one(service, accepted.runtime, (), PlanConfig())
            _print_plan((accepted.reason, *planned.sentences, *accepted.notes))
    except SpecError as error:
        raise Failure(str(error)) from error


def _print_plans(answer: Answer) -> None:
    for sentences in answer.plans:
        _print_plan(sentences)


def _print_plan(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        print(sentence)  # noqa: T201
