"""Models, probes, metrics and documentation: what the application answers itself."""

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from gateway.api.docs_page import render
from gateway.api.errors import INTERNAL, NEEDS_KEY, NO_SUCH_MODEL, documented
from gateway.api.models import list_models, show_model
from gateway.api.openapi import SECURITY, answer
from gateway.api.operations import OPENAI_PREFIXES, operation_id
from gateway.api.ports import ApiPorts
from gateway.api.schemas.service import Health, Model, ModelList

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def add_models(app: FastAPI, ports: ApiPorts) -> None:
    """The list of models, and each of them; a key is needed where keys are on."""

    def check_key(request: Request) -> None:
        sent = (value for name, value in request.scope["headers"] if name == b"authorization")
        ports.tenant_of(next(sent, None))

    async def models(request: Request) -> Response:
        check_key(request)
        return Response(list_models(ports.routes()), media_type="application/json")

    async def model(request: Request) -> Response:
        check_key(request)
        return Response(show_model(request.path_params["model"], ports.routes()), media_type="application/json")

    in_path = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    for prefix in OPENAI_PREFIXES:
        app.add_api_route(
            f"{prefix}/models",
            models,
            operation_id=operation_id(prefix, "list_models"),
            summary="List the models",
            tags=["Models"],
            response_class=Response,
            responses={**answer(ModelList, "The models."), **documented((*NEEDS_KEY, INTERNAL))},
            openapi_extra={"security": SECURITY},
        )
        app.add_api_route(
            f"{prefix}/models/{{model:path}}",
            model,
            operation_id=operation_id(prefix, "retrieve_model"),
            summary="Describe a model",
            tags=["Models"],
            response_class=Response,
            responses={
                **answer(Model, "The model."),
                **documented((*NEEDS_KEY, NO_SUCH_MODEL, INTERNAL)),
            },
            openapi_extra={"security": SECURITY, "parameters": [in_path]},
        )


def add_health(app: FastAPI, ports: ApiPorts) -> None:
    """Probes and metrics. They need no key: keep the port from strangers, or put a proxy before it."""

    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz() -> Response:
        reason = ports.ready()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, 503, {"Retry-After": "1"})

    async def metrics() -> Response:
        return Response(ports.metrics(), media_type=METRICS_TYPE)

    live = answer(Health, "The process answers.")
    ready = answer(Health, "Requests can be served.")
    ready[503] = {**answer(Health, "")[200], "description": "Not yet, or no longer; `reason` says why."}
    text = {"text/plain": {"schema": {"type": "string"}}}
    exposed: dict[int | str, dict[str, object]] = {200: {"description": "The metrics.", "content": text}}
    for path, endpoint, summary, responses in (
        ("/healthz", healthz, "Whether the process is alive", live),
        ("/readyz", readyz, "Whether requests can be served", ready),
        ("/metrics", metrics, "Metrics for Prometheus", exposed),
    ):
        app.add_api_route(
            path,
            endpoint,
            operation_id=endpoint.__name__,
            summary=summary,
            tags=["Operations"],
            response_class=Response,
            responses=responses,
        )
        app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def add_docs(app: FastAPI) -> None:
    """The OpenAPI document, for programs and for people."""
    pages: list[str] = []

    async def openapi_json() -> Response:
        return JSONResponse(app.openapi())

    async def docs() -> Response:
        if not pages:
            pages.append(render(app.openapi()))
        return HTMLResponse(pages[0])

    for path, endpoint, summary, media_type, schema in (
        ("/openapi.json", openapi_json, "This description", "application/json", {"type": "object"}),
        ("/docs", docs, "This description, for people", "text/html", {"type": "string"}),
    ):
        app.add_api_route(
            path,
            endpoint,
            operation_id=endpoint.__name__,
            summary=summary,
            tags=["Operations"],
            response_class=Response,
            responses={200: {"description": summary, "content": {media_type: {"schema": schema}}}},
        )
