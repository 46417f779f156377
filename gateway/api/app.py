"""The FastAPI application: every path of the gateway, documented; and all the work that is not hot.

Inference requests normally never come here: the gateway looks their path up in a dict and serves them itself.
Where the application runs alone they are declared all the same, and handed to the same callable.
"""

from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from gateway.api.cors_layer import CorsLayer
from gateway.api.errors import INTERNAL, error_response, http_error
from gateway.api.inference_routes import add_inference
from gateway.api.openapi import document
from gateway.api.ports import ApiPorts
from gateway.api.service_routes import add_docs, add_health, add_models
from gateway.config import GatewaySettings
from gateway.cors import CorsPolicy
from serving.errors import ApiError

__all__ = ["ApiPorts", "build_api"]

DESCRIPTION = """An OpenAI-compatible gateway for large language models.

`/v1` and `/openai/v1` are the same. Fields that are not described here reach the engine as they were sent."""


class _Api(FastAPI):
    cors = CorsPolicy()

    def build_middleware_stack(self) -> ASGIApp:
        """The framework's own layers, and around them cross-origin headers: a fault gets them too."""
        stack = super().build_middleware_stack()
        return CorsLayer(stack, self.cors) if self.cors.enabled else stack

    def openapi(self) -> dict[str, object]:
        """The document, made when it is first asked for."""
        if self.openapi_schema is None:
            self.openapi_schema = document(self)
        return self.openapi_schema


def build_api(ports: ApiPorts, settings: GatewaySettings) -> FastAPI:
    """The application over `ports`. Of the settings it uses `docs` and `cors`."""
    app = _Api(
        title="Penstock",
        version=_version(),
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.cors = settings.cors.policy()
    add_inference(app, ports)
    add_models(app, ports)
    add_health(app, ports)
    if settings.docs:
        add_docs(app)
    _add_errors(app)
    return app


def _version() -> str:
    try:
        return version("penstock")
    except PackageNotFoundError:  # run from a source tree
        return "0+source"


def _add_errors(app: FastAPI) -> None:
    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error_response(error, request.scope["path"])

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path: str = request.scope["path"]  # not `request.url`, which fails on a Host header that is no host
        headers = dict(error.headers or {})
        shown = http_error(error.status_code, request.method, path, headers.get("Allow", ""))
        return error_response(shown, path, headers)

    async def unknown(request: Request, _: Exception) -> Response:
        return error_response(INTERNAL, request.scope["path"])  # raised again by Starlette, for the log

    app.add_exception_handler(ApiError, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unknown)
