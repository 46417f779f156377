"""The error tree, and the one table that says how each leaf is rendered. No I/O.

ApiError
├── ClientError                 the caller can mend the request
│   ├── InvalidRequest          400 invalid_request_error
│   ├── InvalidJson             400 invalid_request_error / invalid_json
│   ├── MissingKey              401 authentication_error / missing_api_key
│   ├── InvalidKey              401 authentication_error / invalid_api_key
│   ├── UnknownModel            404 not_found_error / model_not_found
│   ├── UnknownPath             404 not_found_error / path_not_found
│   ├── WrongMethod             405 invalid_request_error / method_not_allowed
│   ├── BodyTimeout             408 timeout_error / request_timeout
│   └── BodyTooLarge            413 invalid_request_error / request_too_large
└── ServiceError                the caller can only try again
    ├── Overloaded              429 overloaded_error / overloaded
    ├── Internal                500 api_error / internal_error
    ├── EngineUnreachable       502 api_error / engine_unreachable
    ├── EngineBroken            502 api_error / engine_bad_response
    ├── NoEndpoint              503 api_error / no_endpoint
    ├── ShuttingDown            503 api_error / shutting_down
    └── EngineTimeout           504 timeout_error / engine_timeout
"""

from typing import ClassVar

import msgspec


class ErrorBody(msgspec.Struct, frozen=True):
    """The object under `error` in an OpenAI-shaped error answer."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """`{"error": {...}}`, as the OpenAI API answers it."""

    error: ErrorBody


class ApiError(Exception):
    """An error that is answered to a client. `status` is the HTTP status; `retry_after_s` in whole seconds, or None."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    code: ClassVar[str | None] = "internal_error"
    retry_after_s: int | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s

    def body(self) -> bytes:
        """The OpenAI-shaped JSON body."""
        return msgspec.json.encode(ErrorEnvelope(ErrorBody(self.message, self.type, self.param, self.code)))


class ClientError(ApiError):
    """The caller can mend the request."""

    status = 400
    type = "invalid_request_error"
    code: ClassVar[str | None] = None


class InvalidRequest(ClientError):
    """A field is missing, of the wrong type, or out of range; `param` names it."""


class InvalidJson(ClientError):
    """The body is not JSON."""

    code = "invalid_json"


class ContextExceeded(ClientError):
    """The prompt leaves no room in the model's context."""

    code = "context_length_exceeded"


class MissingKey(ClientError):
    """No API key was sent, and one is needed."""

    status = 401
    type = "authentication_error"
    code = "missing_api_key"


class InvalidKey(ClientError):
    """The API key sent is not known."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class UnknownModel(ClientError):
    """No route serves the model named."""

    status = 404
    type = "not_found_error"
    code = "model_not_found"


class UnknownPath(ClientError):
    """No such path."""

    status = 404
    type = "not_found_error"
    code = "path_not_found"


class WrongMethod(ClientError):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class BodyTimeout(ClientError):
    """The request body did not arrive in time."""

    status = 408
    type = "timeout_error"
    code = "request_timeout"


class BodyTooLarge(ClientError):
    """The request body is over the limit."""

    status = 413
    code = "request_too_large"


class ServiceError(ApiError):
    """Nothing is wrong with the request; it may be sent again."""

    retry_after_s: int | None = 1


class Overloaded(ServiceError):
    """A queue or a connection limit is full."""

    status = 429
    type = "overloaded_error"
    code = "overloaded"


class Internal(ServiceError):
    """A fault in Penstock itself."""

    retry_after_s = None


class EngineUnreachable(ServiceError):
    """The engine refused the connection, or dropped it before the first byte."""

    status = 502
    code = "engine_unreachable"


class EngineBroken(ServiceError):
    """The engine's answer was not HTTP, or ended early."""

    status = 502
    code = "engine_bad_response"


class NoEndpoint(ServiceError):
    """The service exists and has no replica that can take the request."""

    status = 503
    code = "no_endpoint"


class ShuttingDown(ServiceError):
    """This gateway is draining."""

    status = 503
    code = "shutting_down"


class EngineTimeout(ServiceError):
    """The engine did not answer, or fell silent, within the limit."""

    status = 504
    type = "timeout_error"
    code = "engine_timeout"
