"""The OpenAPI document: what FastAPI knows of the routes, and the shapes, which it does not check."""

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from gateway.api.errors import GENERATE, INFERENCE, documented
from gateway.api.examples import EXAMPLES
from gateway.api.operations import GENERATE_OPERATIONS, OPENAI_OPERATIONS, Operation
from gateway.api.schemas.generate import GenerateError
from gateway.api.schemas.service import Error, Health, Model, ModelList
from gateway.api.schemas.shape import Shape

SECURITY: list[dict[str, list[str]]] = [{"bearer": []}]
REQUEST_HEADERS = ("RequestId", "TraceParent")
TAGS = [
    {"name": "Chat", "description": "Conversations."},
    {"name": "Completions", "description": "Plain text."},
    {"name": "Embeddings", "description": "Vectors."},
    {"name": "Rerank", "description": "Documents in order of relevance."},
    {"name": "Responses", "description": "OpenAI's newer interface, where the engine has it."},
    {"name": "Models", "description": "What can be asked for."},
    {"name": "Open Inference Protocol", "description": "The generate part of OIP (v2 REST)."},
    {"name": "Operations", "description": "For probes, Prometheus and people."},
]
_COMPONENTS: dict[str, Any] = {
    "securitySchemes": {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "`Authorization: Bearer KEY`, from the keys file, if there is one.",
        }
    },
    "headers": {
        "RequestId": {
            "description": "The request's own `X-Request-Id`, or a new one.",
            "schema": {"type": "string"},
        },
        "RetryAfter": {
            "description": "Seconds after which to try again.",
            "schema": {"type": "integer", "minimum": 0},
        },
    },
    "parameters": {
        "RequestId": {
            "name": "X-Request-Id",
            "in": "header",
            "description": "A name for this request; it is in the log and comes back with the answer.",
            "schema": {"type": "string"},
        },
        "TraceParent": {
            "name": "traceparent",
            "in": "header",
            "description": "W3C trace context, forwarded to the engine.",
            "schema": {"type": "string"},
        },
    },
}


def reference(shape: type[Shape]) -> dict[str, Any]:
    """Pure. A reference to a shape of the document."""
    return {"$ref": f"#/components/schemas/{shape.__name__}"}


def json_content(shape: type[Shape]) -> dict[str, Any]:
    """Pure. `content` of a JSON body, with its examples."""
    found = EXAMPLES.get(shape.__name__, {})
    content = {"schema": reference(shape)}
    if found:
        content["examples"] = {name: {"value": value} for name, value in found.items()}
    return {"application/json": content}


def answer(shape: type[Shape], description: str) -> dict[int | str, dict[str, Any]]:
    """Pure. `responses` with a JSON answer."""
    return {200: {"description": description, "content": json_content(shape)}}


def responses_of(operation: Operation, *, oip: bool) -> dict[int | str, dict[str, Any]]:
    """Pure. Everything an inference operation may answer."""
    content = json_content(operation.answer) if operation.answer else {}
    if operation.event:
        content |= _events(operation.event, done=operation.done)
    good = {
        "description": "The answer.",
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
        "content": content,
    }
    return {200: good, **documented(GENERATE if oip else INFERENCE, oip=oip)}


def extra_of(operation: Operation, path_parameters: tuple[str, ...] = ()) -> dict[str, Any]:
    """Pure. The parts of an inference operation that FastAPI cannot see: body, parameters, security."""
    in_path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in path_parameters]
    in_header = [{"$ref": f"#/components/parameters/{name}"} for name in REQUEST_HEADERS]
    return {
        "requestBody": {"required": True, "content": json_content(operation.request)},
        "parameters": in_path + in_header,
        "security": SECURITY,
    }


def _events(event: type[Shape], *, done: bool) -> dict[str, Any]:
    lines = [f"data: {json.dumps(value)}\n\n" for value in EXAMPLES[event.__name__].values()]
    text = "".join([*lines, "data: [DONE]\n\n" if done else ""])
    schema = {
        "type": "string",
        "description": f"Server-sent events; the data of each is a {event.__name__}.",
        "x-event-schema": reference(event),
    }
    return {"text/event-stream": {"schema": schema, "examples": {"stream": {"value": text}}}}


def _shapes() -> list[type[Shape]]:
    shapes: set[type[Shape]] = {Error, GenerateError, Health, Model, ModelList}
    for operation in (*OPENAI_OPERATIONS, *GENERATE_OPERATIONS):
        shapes |= {s for s in (operation.request, operation.answer, operation.event) if s}
    return sorted(shapes, key=lambda shape: shape.__name__)


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=TAGS,
        license_info=app.license_info,
    )
    _, schemas = models_json_schema(
        [(shape, "validation") for shape in _shapes()], ref_template="#/components/schemas/{model}"
    )
    found["components"] = {**_COMPONENTS, "schemas": schemas["$defs"]}
    return found
