"""What /docs shows of requests that are decoded without FastAPI's help."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.errors import ErrorEnvelope
from serving.openai import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Completion,
    CompletionRequest,
    ModelList,
    schema_of,
)

_ANSWERS: dict[type, tuple[type, type]] = {
    ChatCompletionRequest: (ChatCompletion, ChatCompletionChunk),
    CompletionRequest: (Completion, Completion),
}


def completion_docs(request: type) -> dict[str, Any]:
    """The OpenAPI operation parts for a generating route."""
    whole, chunk = _ANSWERS[request]
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(request)}}},
        "responses": {
            "200": {
                "description": "The answer, or with `stream` its chunks, each an event, and `[DONE]`.",
                "content": {
                    "application/json": {"schema": _ref(whole)},
                    "text/event-stream": {"schema": _ref(chunk)},
                },
            },
            **{status: _error(what) for status, what in _ERRORS.items()},
        },
    }


def describe(app: FastAPI) -> None:
    """Put the message schemas into the app's OpenAPI document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schemas = app.openapi_schema.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(
                schema_of(*_ANSWERS, ChatCompletion, ChatCompletionChunk, Completion, ModelList, ErrorEnvelope)
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


_ERRORS = {
    "400": "A field is missing, of the wrong type or out of range, or the prompt is too long.",
    "404": "Another model than the one served here.",
    "429": "The waiting queue is full; Retry-After says when to try again.",
    "503": "The model is loading, or the engine is shutting down.",
}


def _error(what: str) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": _ref(ErrorEnvelope)}}}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
