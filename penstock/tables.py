"""Tables for the terminal: what runs, and which models a gateway has."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from autoscaler.local.status import ServiceStatus
from penstock.display import safe


def age(seconds: float) -> str:
    """Pure. A time span in the two largest units that matter, as kubectl writes it."""
    whole = int(seconds)
    for unit, name, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit}{name}{f'{rest}{lower}' if rest else ''}"
    return f"{whole}s"


def services_table(services: Sequence[ServiceStatus], url: str) -> Table:
    """One row per service."""
    table = _table("NAME", "STATE", "READY", "REVISION", "MODELS", "RESTARTS", "AGE", "URL")
    for service in services:
        restarts = sum(r.restarts for r in service.replicas)
        ready = f"{service.ready}/{service.wanted}"
        models = ", ".join(service.models)
        row = (
            service.name,
            service.phase,
            ready,
            service.revision,
            models,
            str(restarts),
            age(service.age_s),
            url,
        )
        table.add_row(*row)
    return table


def models_table(models: Sequence[dict[str, Any]]) -> Table:
    """One row per model of `/v1/models`."""
    table = _table("MODEL", "OWNED BY", "SINCE")
    for model in models:
        created = model.get("created")
        since = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M UTC") if created else ""
        table.add_row(safe(str(model.get("id", ""))), safe(str(model.get("owned_by", ""))), since)
    return table


def show(table: Table) -> None:
    """Print a table; all of every cell where the output is not a terminal, so that programs can read it."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=1000)
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
