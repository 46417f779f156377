"""Cross-origin headers on what the application answers. Hot answers get theirs elsewhere, as values."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.cors import CorsPolicy, Headers, cors_headers, is_preflight, preflight

ALLOW_ORIGIN = b"access-control-allow-origin"


class CorsLayer:
    """Answers preflights, and adds headers to answers that have none yet."""

    def __init__(self, app: ASGIApp, policy: CorsPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = scope["headers"]
        if is_preflight(scope["method"], given):
            await _answer(send, *preflight(self._policy, given))
            return
        added = cors_headers(self._policy, next((v for n, v in given if n == b"origin"), None))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if not any(name.lower() == ALLOW_ORIGIN for name, _ in headers):
                    message = {**message, "headers": [*headers, *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
