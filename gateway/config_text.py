"""From text to settings values, and from what is wrong with them to lines a person can act on."""

from collections.abc import Hashable
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.endpoint_url import without_userinfo

VALUE_CHARS = 80
_SECRET = "api_key"  # noqa: S105 - the name of a field, not a secret


class SettingsError(ValueError):
    """The configuration is wrong. The text has one line per mistake."""


class _Loader(yaml.SafeLoader):
    """YAML, with a key given twice refused: the first `models:` of two would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        self.flatten_mapping(node)
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(text: bytes) -> Any:
    """Pure. The first document of `text`.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is not YAML that can be read.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def one_line(error: Exception) -> str:
    """Pure. What is wrong with the YAML, and where. Never quotes the file: a line may hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        return f"{error.problem}{where}"
    return " ".join(str(error).split()) or type(error).__name__


def explain(error: ValidationError, model: type[BaseModel], source: str = "") -> str:
    """Pure. One line per mistake: `SOURCE: PATH: VALUE: what is allowed`."""
    start = f"{source}: " if source else ""
    return "\n".join(start + _line(detail, model) for detail in error.errors(include_url=False))


def _line(detail: ErrorDetails, model: type[BaseModel]) -> str:
    path = _path(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{path}: no such field; allowed here: {', '.join(_fields(detail['loc'][:-1], model))}"
    if detail["type"] == "missing":
        return f"{path}: is required"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if detail["type"] == "model_type":
        message = "should be a mapping"
    if _SECRET in detail["loc"] or isinstance(detail["input"], dict | list | BaseModel):
        return f"{path}: {message}" if path else message
    return f"{path}: {_shown(detail['input'])}: {message}"


def _path(loc: tuple[int | str, ...]) -> str:
    """`("models", 0, "name")` as `models[0].name`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")


def _shown(value: object) -> str:
    text = without_userinfo(repr(value))
    return text if len(text) <= VALUE_CHARS else f"{text[: VALUE_CHARS - 3]}..."


def _fields(loc: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The fields of the section at `loc`."""
    for part in loc:
        if isinstance(part, str):
            model = _section(model.model_fields[part].annotation)
    return sorted(model.model_fields)


def _section(annotation: object) -> type[BaseModel]:
    """The section type in an annotation: `Limits`, or `ModelSettings` out of `tuple[ModelSettings, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return _section(get_args(annotation)[0])
