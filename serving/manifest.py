"""Manifest text to services and runtimes; mistakes by field path, value and what is allowed. No I/O."""

from collections.abc import Hashable, Iterator
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serving.fields import Fields
from serving.inference_service import API_VERSION as SERVICE_API
from serving.inference_service import InferenceService
from serving.runtime import API_VERSION as RUNTIME_API
from serving.runtime import ServingRuntime
from serving.validation import SpecError, problems

F = TypeVar("F", bound=Fields)
ALLOWED = {
    "string_type": "a string (put it in quotes)",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
UNION_TAGS = ("str", "int", "float")  # pydantic's marks for the branches of a quantity's type


class ManifestLoader(yaml.SafeLoader):
    """YAML as kubectl reads it: a date stays text, and a key may stand only once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a repeated key, which YAML parsers otherwise drop without a word.

        Raises:
            yaml.constructor.ConstructorError: a key stands twice.
        """
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


ManifestLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_services(text: str, source: str) -> tuple[InferenceService, ...]:
    """Pure. The InferenceServices in a YAML text of one or more documents; `source` names it in errors.

    Raises:
        SpecError: not YAML, another kind, no service at all, two of one name, or a field that breaks a rule.
    """
    found: dict[tuple[str, str], InferenceService] = {}
    for where, data in _documents(text, source):
        _expect_kind(where, data, ("InferenceService",), SERVICE_API)
        service = _read(InferenceService, where, data)
        broken = problems(service)
        if broken:
            raise SpecError("\n".join(f"{where}: {problem}" for problem in broken))
        if service.key in found:
            raise SpecError(f"{where}: metadata.name: {service.title!r} is in the file twice; names must differ")
        found[service.key] = service
    if not found:
        raise SpecError(f"{source}: no InferenceService in it")
    return tuple(found.values())


def parse_runtimes(text: str, source: str) -> tuple[ServingRuntime, ...]:
    """Pure. The ServingRuntimes and ClusterServingRuntimes in a YAML text.

    Raises:
        SpecError: not YAML, another kind, or a wrong field.
    """
    kinds = ("ServingRuntime", "ClusterServingRuntime")
    found = []
    for where, data in _documents(text, source):
        _expect_kind(where, data, kinds, RUNTIME_API)
        found.append(_read(ServingRuntime, where, data))
    return tuple(found)


def _documents(text: str, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each document as a mapping, and its name in errors. A `List` counts as its items."""
    try:
        parsed = [d for d in yaml.load_all(text, Loader=ManifestLoader) if d is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{source}: not valid YAML: {_one_line(error)}") from error
    items = [item for document in parsed for item in _unrolled(document)]
    for number, item in enumerate(items, 1):
        where = source if len(items) == 1 else f"{source}, document {number}"
        if not isinstance(item, dict):
            raise SpecError(f"{where}: {_shown(item)} is not a manifest; it must be a mapping with kind and spec")
        yield where, item


def _unrolled(document: Any) -> list[Any]:
    if isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items"), list):
        return list(document["items"])
    return [document]


def _expect_kind(where: str, data: dict[str, Any], kinds: tuple[str, ...], api: str) -> None:
    kind, version = data.get("kind"), data.get("apiVersion")
    if kind not in kinds:
        raise SpecError(f"{where}: kind: {_shown(kind)} is not read here; it must be {' or '.join(kinds)}")
    if version != api:
        raise SpecError(f"{where}: apiVersion: {_shown(version)} is not known for {kind}; it must be {api}")


def _read(shape: type[F], where: str, data: dict[str, Any]) -> F:
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        lines = dict.fromkeys(f"{where}: {_sentence(detail)}" for detail in error.errors(include_url=False))
        raise SpecError("\n".join(lines)) from error


def _sentence(detail: ErrorDetails) -> str:
    """One of pydantic's findings in our words."""
    path, context = _path(detail["loc"]), detail.get("ctx", {})
    if detail["loc"] and detail["loc"][-1] in UNION_TAGS:
        return f"{path}: {_shown(detail['input'])} is not allowed; it must be a quantity, such as 2, 500m or 2Gi"
    match detail["type"]:
        case "missing":
            return f"{path}: is missing; it is required"
        case "unknown_key":
            return f"{'.'.join(filter(None, (path, context['key'])))}: {context['hint']}"
        case "value_error":
            return str(context["error"])
        case kind:
            allowed = f"it must be {ALLOWED[kind]}" if kind in ALLOWED else detail["msg"]
            return f"{path}: {_shown(detail['input'])} is not allowed; {allowed}"


def _path(location: tuple[int | str, ...]) -> str:
    """`spec.predictor.model.env[0].value`; a framework's key is left as the user wrote it."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in ("frameworks", "[key]", *UNION_TAGS):
            path += f".{part}" if path else part
    return path


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _one_line(error: BaseException) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    return f"{getattr(error, 'problem', None) or type(error).__name__}{place}"
