"""What `penstock up` shows while it works: a live display at a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from autoscaler.local.status import Event, Level, Phase, ServiceStatus

STYLES = {Level.INFO: "", Level.WARNING: "yellow", Level.ERROR: "bold red"}
MARKS = {
    "ready": ("✓", "green"),
    "crashed": ("✗", "red"),
    "degraded": ("!", "yellow"),
    "stopped": ("-", "dim"),
}
REPEAT_S = 15.0  # how often plain lines say that something is still starting


class LastingConsole(Console):
    """A console that falls silent when nobody reads it any more; rich's own would end the program."""

    def on_broken_pipe(self) -> None:
        """Print nothing more."""
        self.quiet = True


class Display(Protocol):
    """Where progress and events go."""

    def tell(self, event: Event) -> None: ...
    def progress(self, statuses: Sequence[ServiceStatus]) -> None: ...
    def settled(self) -> None: ...


def display_for(console: Console) -> "LiveDisplay | PlainDisplay":
    """The one that fits the console."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


def safe(text: str) -> str:
    """Pure. Text of unknown origin without control characters, which could act on a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def event_text(event: Event) -> Text:
    """Pure. An event as it is shown, with its log lines indented."""
    text = Text(safe(f"{event.service}: {event.text}"), style=STYLES[event.level])
    for line in event.detail:
        text.append("\n    " + safe(line), style="dim")
    return text


def status_text(status: ServiceStatus) -> str:
    """Pure. One service in a line."""
    phase = status.phase
    count = f" ({status.ready}/{status.wanted})" if status.wanted > 1 else ""
    if phase == "starting":
        longest = max((r.since_s for r in status.replicas if r.phase is Phase.STARTING), default=0.0)
        return f"{status.name} is starting{count}, {longest:.0f} s"
    if phase == "crashed":
        return f"{status.name} has crashed{count} and is started again"
    return f"{status.name} is {phase}{count}"


class PlainDisplay:
    """One line per event; a line now and then while a service starts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, float] = {}

    def tell(self, event: Event) -> None:
        """Show an event."""
        self._console.print(event_text(event), soft_wrap=True)

    def progress(self, statuses: Sequence[ServiceStatus]) -> None:
        """Show where the services are, if that has not been said for a while."""
        for status in statuses:
            if status.age_s - self._said.setdefault(status.name, 0.0) >= REPEAT_S and status.phase != "ready":
                self._said[status.name] = status.age_s
                self._console.print(Text(status_text(status)), soft_wrap=True)

    def settled(self) -> None:
        """All services are ready, or nobody waits for them any more."""


class LiveDisplay:
    """A spinner per service until all are ready; events appear above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._spinners: dict[str, Spinner] = {}

    def tell(self, event: Event) -> None:
        """Show an event."""
        self._console.print(event_text(event), soft_wrap=True)

    def progress(self, statuses: Sequence[ServiceStatus]) -> None:
        """Show where the services are."""
        lines = Group(*(self._line(status) for status in statuses))
        if self._live is None:
            self._live = Live(lines, console=self._console, transient=True, refresh_per_second=8)
            self._live.start(refresh=True)
        self._live.update(lines)

    def settled(self) -> None:
        """Take the live part away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self, status: ServiceStatus) -> Text | Spinner:
        mark = MARKS.get(status.phase)
        if mark is not None:
            return Text(f"{mark[0]} {status_text(status)}", style=mark[1])
        spinner = self._spinners.setdefault(status.name, Spinner("dots"))
        spinner.update(text=status_text(status))
        return spinner
