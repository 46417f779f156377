"""What is printed: progress, events, tables, logs."""

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from autoscaler.local.status import Event, Level, Phase, ReplicaStatus, ServiceStatus
from penstock.ask import welcome
from penstock.display import LiveDisplay, PlainDisplay, display_for, event_text, safe, status_text
from penstock.logs import BoundedFile, follow, last_lines, log_to
from penstock.tables import age, models_table, services_table


def status(phase: Phase, since_s: float = 3.0, wanted: int = 1, age_s: float = 5.0) -> ServiceStatus:
    replica = ReplicaStatus("demo-r-0", phase, 1, 2, 4, since_s, "log")
    return ServiceStatus("demo", ("demo", "llm"), "r", wanted, int(phase is Phase.READY), age_s, (replica,))


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=80, color_system=None), out


def test_a_log_line_cannot_act_on_the_terminal() -> None:
    assert safe("a\x1b[2Jb\rc\nd") == "a [2Jb c\nd"
    text = event_text(Event("demo", "died [bold]", Level.ERROR, ("line\x07", "[/red]")))
    assert text.plain == "demo: died [bold]\n    line \n    [/red]"


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (status(Phase.STARTING), "demo is starting, 3 s"),
        (status(Phase.STARTING, wanted=2), "demo is starting (0/2), 3 s"),
        (status(Phase.CRASHED), "demo has crashed and is started again"),
        (status(Phase.READY), "demo is ready"),
        (status(Phase.READY, wanted=0), "demo is stopped"),
    ],
)
def test_a_service_in_a_line(of: ServiceStatus, text: str) -> None:
    assert status_text(of) == text


def test_plain_lines_are_few() -> None:
    screen, out = console(terminal=False)
    display = display_for(screen)
    assert isinstance(display, PlainDisplay)
    for seconds in range(40):
        display.progress([status(Phase.STARTING, seconds, age_s=float(seconds))])
    display.progress([status(Phase.READY, age_s=60.0)])
    display.tell(Event("demo", "is ready " + "x" * 200))
    display.settled()
    assert out.getvalue().splitlines() == [
        "demo is starting, 15 s",
        "demo is starting, 30 s",
        "demo: is ready " + "x" * 200,
    ]


def test_the_live_display_shows_every_service_and_goes() -> None:
    screen, out = console(terminal=True)
    for phase in (Phase.STARTING, Phase.CRASHED, Phase.READY):
        display = display_for(screen)
        assert isinstance(display, LiveDisplay)
        display.progress([status(phase)])
        display.progress([status(phase)])
        display.tell(Event("demo", f"now {phase}", Level.WARNING))
        display.settled()
        display.settled()
    text = out.getvalue()
    assert "demo is starting, 3 s" in text
    assert "✗ demo has crashed" in text
    assert "✓ demo is ready" in text
    assert "demo: now crashed" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (3660, "1h1m"), (90000, "1d1h")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_tables() -> None:
    screen, out = console(terminal=False)
    screen.width = 200
    screen.print(services_table([status(Phase.READY)], "http://h"))
    head, row = out.getvalue().splitlines()
    assert head.split() == ["NAME", "STATE", "READY", "REVISION", "MODELS", "RESTARTS", "AGE", "URL"]
    assert row.split() == ["demo", "ready", "1/1", "r", "demo,", "llm", "4", "5s", "http://h"]
    screen.print(models_table([{"id": "a\x1b", "owned_by": "p", "created": 0}, {"id": "b", "created": 86400}]))
    assert "1970-01-02 00:00 UTC" in out.getvalue()
    assert "\x1b" not in out.getvalue()


class Shown:
    state = Path("state")
    keyed = False


def test_the_welcome_can_be_pasted() -> None:
    text = welcome("http://h:1", ["demo", "b"], Shown())
    assert "Penstock serves demo, b at http://h:1/v1" in text
    assert "curl -N http://h:1/v1/chat/completions" in text
    assert "Authorization" not in text
    assert "state/logs" in text
    assert "penstock apply -f FILE" in welcome("http://h:1", [], Shown())
    keyed = Shown()
    keyed.keyed = True
    assert '-H "Authorization: Bearer $PENSTOCK_API_KEY" \\\n' in welcome("http://h:1", ["it's"], keyed)


def test_a_bounded_file_is_set_aside_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    file = BoundedFile(path, most_bytes=20)
    for _ in range(4):
        file.write(b"12345678\n")
    file.close()
    assert path.read_text() == "12345678\n"
    assert (tmp_path / "access.log.1").read_text() == "12345678\n" * 2


def test_the_log_goes_to_a_file_and_what_is_wrong_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log_to(tmp_path / "log", "info")
        logging.getLogger("x").info("fine")
        logging.getLogger("x").error("broken")
        logging.getLogger("x").debug("detail")
    finally:
        for handler in root.handlers[:]:
            handler.close()
        root.handlers[:], root.level = handlers, level
    assert [line.split(" ", 2)[2] for line in (tmp_path / "log").read_text().splitlines()] == [
        "INFO x: fine",
        "ERROR x: broken",
    ]
    assert "broken" in capsys.readouterr().err


def test_last_lines_of_several_files(tmp_path: Path) -> None:
    a, b = tmp_path / "a.log", tmp_path / "b.log"
    a.write_text("1\n2\n3\n")
    b.write_text("4\n")
    assert list(last_lines([a], 2)) == ["2", "3"]
    assert list(last_lines([a, b], 2)) == ["==> a.log <==", "2", "3", "==> b.log <==", "4"]
    assert list(last_lines([a], 0)) == []


def test_following_gives_whole_lines_and_survives_a_new_file(tmp_path: Path) -> None:
    a, b = tmp_path / "a.log", tmp_path / "b.log"
    a.write_text("old\n")
    b.write_text("")
    lines = follow([a, b])
    with a.open("a") as file:
        file.write("half")
        file.flush()
        b.write_text("other\n")
        assert next(lines) == "b: other"
        file.write(" line\n")
    assert next(lines) == "a: half line"
    a.unlink()
    b.write_text("other\nmore\n")
    assert next(lines) == "b: more"
    a.write_text("new\n")
    assert next(lines) == "a: new"
