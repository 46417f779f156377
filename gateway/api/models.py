"""What `/v1/models` answers. Pure."""

import msgspec
from msgspec import Struct

from serving.errors import UnknownModel
from serving.routes import RouteTable

OWNER = "penstock"
NAMES_SHOWN = 20
NAME_CHARS = 100


class ModelEntry(Struct, frozen=True):
    """One model name, in the shape of the OpenAI API. `created` is Unix time, 0 where it is not known."""

    id: str
    created: int
    object: str = "model"
    owned_by: str = OWNER


class ModelEntries(Struct, frozen=True):
    """The list of them."""

    data: list[ModelEntry]
    object: str = "list"


def list_models(table: RouteTable) -> bytes:
    """Pure. Every model name, aliases included, as JSON."""
    entries = [ModelEntry(name, route.created_s) for route in table.routes for name in route.models]
    return msgspec.json.encode(ModelEntries(entries))


def show_model(name: str, table: RouteTable) -> bytes:
    """Pure. One model name as JSON.

    Raises:
        UnknownModel: there is none of that name.
    """
    route = table.by_model.get(name)
    if route is None:
        raise unknown_model(name, table)
    return msgspec.json.encode(ModelEntry(name, route.created_s))


def unknown_model(name: str, table: RouteTable) -> UnknownModel:
    """Pure. The error for a model name that no route serves; it lists what exists."""
    shown = name if len(name) <= NAME_CHARS else f"{name[:NAME_CHARS]}..."
    names = [model for route in table.routes for model in route.models]
    listed = ", ".join(names[:NAMES_SHOWN])
    if len(names) > NAMES_SHOWN:
        listed += f" and {len(names) - NAMES_SHOWN} more (GET /v1/models lists them)"
    there = f"Models here: {listed}." if names else "There are no models here yet."
    return UnknownModel(f"The model {shown!r} does not exist. {there}", param="model")
