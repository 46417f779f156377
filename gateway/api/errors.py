"""Errors as HTTP answers, and as the documentation shows them."""

import json
from collections.abc import Iterable
from typing import Any

from starlette.responses import Response

from gateway.oip import error_body
from serving.errors import (
    ApiError,
    BodyTimeout,
    BodyTooLarge,
    EngineBroken,
    EngineTimeout,
    EngineUnreachable,
    Internal,
    InvalidJson,
    InvalidKey,
    InvalidRequest,
    MissingKey,
    NoEndpoint,
    Overloaded,
    ShuttingDown,
    UnknownModel,
    UnknownPath,
    WrongMethod,
)
from serving.oip import GenerationFailed, InvalidInput

PATH_CHARS = 200
NEEDS_KEY = (MissingKey("An API key is needed."), InvalidKey("The API key is not valid."))
NO_SUCH_MODEL = UnknownModel("The model 'llama' does not exist. Models here: demo.", param="model")
INTERNAL = Internal("The gateway failed; the log has the reason.")
INFERENCE = (
    InvalidRequest("'max_tokens' must be a whole number, and is \"many\".", param="max_tokens"),
    InvalidJson("The request body is not valid JSON."),
    *NEEDS_KEY,
    NO_SUCH_MODEL,
    BodyTimeout("The request body did not arrive within 30 s."),
    BodyTooLarge("The request body is over the limit of 33554432 bytes."),
    Overloaded("All connections to the engines of 'demo' are taken."),
    INTERNAL,
    EngineUnreachable("The engine of 'demo' cannot be reached."),
    EngineBroken("The engine's answer was not HTTP."),
    NoEndpoint("No replica of 'demo' is ready."),
    ShuttingDown("This gateway is shutting down."),
    EngineTimeout("The engine did not answer within 300 s."),
)
GENERATE = (
    InvalidInput("'parameters.max_tokens': Expected `int` >= 1.", param="parameters.max_tokens"),
    GenerationFailed("The engine gave up on the answer."),
    *(e for e in INFERENCE if not isinstance(e, InvalidRequest)),
)
MEANINGS = {
    400: "The request is wrong.",
    401: "The key is missing or wrong.",
    404: "There is no such model.",
    408: "The request body was too slow.",
    413: "The request body is too large.",
    422: "The request is wrong.",
    424: "The engine failed.",
    429: "Too much at once; try again.",
    500: "The gateway failed.",
    502: "The engine is gone, or its answer is broken.",
    503: "Nothing can serve this now; try again.",
    504: "The engine was too slow.",
}


def speaks_oip(path: str) -> bool:
    """Pure. Whether errors on this path have the shape of the Open Inference Protocol."""
    return path.startswith("/v2/")


def error_response(error: ApiError, path: str, headers: dict[str, str] | None = None) -> Response:
    """The HTTP answer for `error` on `path`; `headers` are added."""
    added = dict(headers or {})
    if error.retry_after_s is not None:
        added["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        added["WWW-Authenticate"] = "Bearer"
    status, body = error_body(error) if speaks_oip(path) else (error.status, error.body())
    return Response(body, status, added, "application/json")


def http_error(status: int, method: str, path: str, allow: str) -> ApiError:
    """Pure. The framework's own error, as one of ours."""
    shown = path if len(path) <= PATH_CHARS else f"{path[:PATH_CHARS]}..."
    if status == 404:
        return UnknownPath(f"There is no {shown}; paths here are under /v1, /openai/v1 and /v2/models.")
    if status == 405:
        return WrongMethod(f"{method} is not possible on {shown}; allowed: {allow}.")
    return INTERNAL


def documented(errors: Iterable[ApiError], *, oip: bool = False) -> dict[int | str, dict[str, Any]]:
    """Pure. The `responses` of an OpenAPI operation that may answer with `errors`."""
    found: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        status, body = error_body(error) if oip else (error.status, error.body())
        entry = found.setdefault(status, _entry(MEANINGS[status], oip))
        entry["content"]["application/json"]["examples"][error.code or error.type] = {"value": json.loads(body)}
        if error.retry_after_s is not None:
            entry["headers"] = {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}}
    return dict(sorted(found.items())) | {"default": _entry("Any other error.", oip, examples=False)}


def _entry(description: str, oip: bool, *, examples: bool = True) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{'GenerateError' if oip else 'Error'}"}
    content: dict[str, Any] = {"schema": schema}
    if examples:
        content["examples"] = {}
    return {"description": description, "content": {"application/json": content}}
