"""The values that settings are made of, each with what is allowed. Pure."""

import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

T = TypeVar("T")
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:@+~-]{0,254}")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]+")


def model_name(name: str) -> str:
    """Pure. `name` as it was given.

    Raises:
        ValueError: not a name that a URL path and a metrics label can both carry.
    """
    if not MODEL_NAME.fullmatch(name):
        raise ValueError("a model name is up to 255 letters, digits and _ . / : @ + ~ -, a letter or digit first")
    return name


def header_text(text: str) -> str:
    """Pure. `text` as it was given.

    Raises:
        ValueError: it could not be sent in a header as one word.
    """
    if not (text and text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("must be printable ASCII without spaces")
    return text


def origin(text: str) -> str:
    """Pure. `text` as it was given.

    Raises:
        ValueError: not an origin, nor `*`.
    """
    if text != "*" and not ORIGIN.fullmatch(text):
        raise ValueError("an origin is SCHEME://HOST[:PORT] in lower case and without a slash at its end, or *")
    return text


def not_empty(items: tuple[T, ...]) -> tuple[T, ...]:
    """Pure. `items` as they were given.

    Raises:
        ValueError: there are none.
    """
    if not items:
        raise ValueError("needs at least one entry")
    return items


# Strict, so that YAML's `true` is not read as the number 1 nor `"8080"` as a port.
Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, gt=0)]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
SecondsOrOff = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
ModelName = Annotated[str, AfterValidator(model_name)]
Origin = Annotated[str, AfterValidator(origin)]
HeaderText = Annotated[str, AfterValidator(header_text)]
