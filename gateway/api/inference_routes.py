"""The inference paths, declared and handed on."""

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.openapi import extra_of, responses_of
from gateway.api.operations import (
    GENERATE_OPERATIONS,
    OPENAI_OPERATIONS,
    OPENAI_PREFIXES,
    PROTOCOL_PREFIX,
    Operation,
    operation_id,
)
from gateway.api.ports import ApiPorts


class Relayed(Response):
    """An answer that is made by another ASGI callable, which also reads the body."""

    def __init__(self, serve: ASGIApp) -> None:
        super().__init__()
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        await self._serve(scope, receive, send)


def add_inference(app: FastAPI, ports: ApiPorts) -> None:
    """Declare the inference paths; `ports.inference` serves them."""

    async def relay(request: Request) -> Response:  # noqa: ARG001 - FastAPI goes by the signature
        return Relayed(ports.inference)

    def add(prefix: str, name: str, operation: Operation, in_path: tuple[str, ...] = ()) -> None:
        app.add_api_route(
            prefix + operation.path,
            relay,
            methods=["POST"],
            operation_id=name,
            summary=operation.summary,
            description=operation.description,
            tags=[operation.tag],
            response_class=Response,
            responses=responses_of(operation, oip=bool(in_path)),
            openapi_extra=extra_of(operation, in_path),
        )

    for prefix in OPENAI_PREFIXES:
        for operation in OPENAI_OPERATIONS:
            add(prefix, operation_id(prefix, operation.name), operation)
    for operation in GENERATE_OPERATIONS:  # the longer path first: a model's name may contain slashes
        versioned = f"{PROTOCOL_PREFIX}/versions/{{version}}"
        add(versioned, f"v2_{operation.name}_version", operation, ("model", "version"))
        add(PROTOCOL_PREFIX, f"v2_{operation.name}", operation, ("model",))
