"""Models, errors and the state of the gateway."""

from typing import Literal

from gateway.api.schemas.shape import Shape


class Model(Shape):
    """A model name that requests may use."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """Unix time, seconds; 0 where it is not known."""
    owned_by: str


class ModelList(Shape):
    """Every model name, aliases included."""

    object: Literal["list"] = "list"
    data: list[Model]


class ErrorDetail(Shape):
    """What went wrong."""

    message: str
    """A sentence for people."""
    type: str
    """The kind of error."""
    param: str | None = None
    """The field of the request that is wrong, where there is one."""
    code: str | None = None
    """A word for programs."""


class Error(Shape):
    """An error, in the shape of the OpenAI API."""

    error: ErrorDetail


class Health(Shape):
    """The state of the gateway."""

    status: Literal["ok", "ready", "not ready"]
    reason: str | None = None
    """Why it is not ready."""
