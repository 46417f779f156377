"""The HTTP routes."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec
from fastapi import FastAPI, Request, Response
from sse_starlette import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from engines.huggingface.answer import DONE, Answer
from engines.huggingface.docs import completion_docs, describe
from engines.huggingface.front import Front, State
from engines.huggingface.generation import Started, check_model, start_chat, start_completion
from serving.errors import ApiError, BodyTooLarge, ClientError, Internal, UnknownPath, WrongMethod
from serving.openai import ChatCompletionRequest, CompletionRequest, ModelCard, ModelList

_log = logging.getLogger("penstock.engine")

JSON = "application/json"
_PING_S = 15
_MOST_BODY_BYTES = 16 * 2**20
_PREFIXES = ("/v1", "/openai/v1")


def build_app(front: Front, model: str) -> ASGIApp:
    """The app that serves `model` from `front`.

    FastAPI declares and documents every route and serves all but the generating ones, which a look-up in
    front of it answers: its middleware, routing and dependencies cost 0.2 ms of the event loop per request,
    and a full batch of requests that come at once waits for all of them.
    """
    app = FastAPI(title="Penstock Hugging Face engine", version="1", redoc_url=None)
    created = int(time.time())

    def card() -> ModelCard:
        return ModelCard(model, created, max_model_len=front.bounds.context_tokens)

    async def chat(request: Request) -> Response:
        """Answer a conversation, as one object or as a stream of server-sent events."""
        return await _respond(request, lambda body: start_chat(front, model, body))

    async def completions(request: Request) -> Response:
        """Continue one or several texts."""
        return await _respond(request, lambda body: start_completion(front, model, body))

    async def models() -> Response:
        """The model served here."""
        found = [card()] if front.state in (State.READY, State.DRAINING) else []
        return _json(ModelList(found))

    async def one_model(name: str) -> Response:
        """The model served here, if it has this name."""
        check_model(name, model)
        return _json(card() if front.state in (State.READY, State.DRAINING) else ModelCard(model, created))

    for prefix in _PREFIXES:
        app.post(f"{prefix}/chat/completions", openapi_extra=completion_docs(ChatCompletionRequest))(chat)
        app.post(f"{prefix}/completions", openapi_extra=completion_docs(CompletionRequest))(completions)
        app.get(f"{prefix}/models")(models)
        app.get(f"{prefix}/models/{{name:path}}")(one_model)
    _add_operations(app, front)
    _add_errors(app)
    describe(app)
    hot = {f"{prefix}/chat/completions": chat for prefix in _PREFIXES}
    hot |= {f"{prefix}/completions": completions for prefix in _PREFIXES}
    return _in_front(app, hot)


def _in_front(app: FastAPI, hot: Mapping[str, Callable[[Request], Awaitable[Response]]]) -> ASGIApp:
    """`app`, with POSTs to the `hot` paths answered directly."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        handler = hot.get(scope.get("path", "")) if scope.get("method") == "POST" else None
        if handler is None:
            await app(scope, receive, send)
            return
        try:
            response = await handler(Request(scope, receive))
        except ApiError as error:
            response = error_response(error)
        except ClientDisconnect:
            return
        except Exception as error:
            _log.exception("a request failed")
            response = error_response(Internal(f"internal error: {type(error).__name__}"))
        await response(scope, receive, send)

    return call


def _add_operations(app: FastAPI, front: Front) -> None:
    @app.get("/health")
    async def health() -> Response:
        """200 while the process can be left running; 503 if only a restart helps."""
        return _status(200 if front.healthy else 503, front.state.value if front.healthy else "broken")

    @app.get("/health/ready")
    async def ready() -> Response:
        """200 when requests are taken; 503 while the model loads, and from the moment a shutdown begins."""
        good = front.state is State.READY and front.healthy
        return _status(200 if good else 503, front.state.value if front.healthy else "broken")

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(front.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error_response(error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return error_response(UnknownPath(f"no such path: {request.url.path}"))
        if error.status_code == 405:
            return error_response(WrongMethod(f"{request.method} is not allowed on {request.url.path}"))
        return error_response(ClientError(str(error.detail)))

    async def fault(_: Request, error: Exception) -> Response:
        return error_response(Internal(f"internal error: {type(error).__name__}"))

    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)


def error_response(error: ApiError) -> Response:
    """An error as the OpenAI API answers it."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return Response(error.body(), error.status, headers, media_type=JSON)


async def _respond(request: Request, start: Callable[[bytes], Started]) -> Response:
    started = start(await _body(request))
    if started.stream:
        return EventSourceResponse(_events(started), ping=_PING_S, sep="\n", headers={"Cache-Control": "no-cache"})
    with started.ticket:
        body = await _unless_gone(request, _whole(started))
    # Nobody reads the answer to a client that has hung up.
    return Response(status_code=499) if body is None else Response(body, media_type=JSON)


async def _body(request: Request) -> bytes:
    """The request's body.

    Raises:
        BodyTooLarge: it is longer than any prompt can be.
        ClientDisconnect: the client left before it was whole.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_BODY_BYTES:
            raise BodyTooLarge(f"the body is over {_MOST_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


async def _events(started: Started) -> AsyncIterator[bytes]:
    answer = Answer(started.form, started.choices)
    with started.ticket as ticket:
        try:
            while not ticket.done:
                news = await ticket.news()
                events = answer.events(news, ticket.done)
                if events:
                    yield events
        except ApiError as error:
            yield b"data: " + error.body() + b"\n\n" + DONE


async def _whole(started: Started) -> bytes:
    answer = Answer(started.form, started.choices)
    while not started.ticket.done:
        answer.add(await started.ticket.news())
    return answer.whole()


async def _unless_gone(request: Request, work: Awaitable[bytes]) -> bytes | None:
    """The result of `work`, or None as soon as the client has hung up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        task.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)


def _status(status: int, word: str) -> Response:
    return Response(msgspec.json.encode({"status": word}), status, media_type=JSON)
