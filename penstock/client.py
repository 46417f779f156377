"""A small OpenAI client for the terminal: models, and chat answers as they come. Standard library only."""

import http.client
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from penstock.failure import Failure

CONNECT_S = 5.0
SILENCE_S = 600.0

Message = dict[str, str]


class Client:
    """A gateway at `url` (with or without `/v1`), with an API key if it wants one.

    Raises:
        Failure: `url` is not an HTTP URL.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise Failure(f"{url!r} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(f"{url!r} is not a URL such as http://127.0.0.1:8080")
        self.url = url
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._path = parts.path.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def models(self) -> list[dict[str, Any]]:
        """What the gateway serves, as `/v1/models` lists it.

        Raises:
            Failure: it cannot be reached, or answers with an error.
        """
        with self._exchange("GET", "/v1/models") as response:
            try:
                listed = json.load(response)["data"]
                return [dict(model) for model in listed]
            except (ValueError, TypeError, KeyError) as error:
                raise Failure(f"{self.url} does not answer like an OpenAI API") from error

    def chat(self, model: str, messages: Sequence[Message]) -> Generator[str, None, None]:
        """The answer's text, piece by piece. Closing the iterator hangs up.

        Raises:
            Failure: the gateway cannot be reached, answers with an error, or the answer breaks off.
        """
        body = json.dumps({"model": model, "messages": list(messages), "stream": True}).encode()
        with self._exchange("POST", "/v1/chat/completions", body) as response:
            for line in response:
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                yield from _text(json.loads(data))
            raise Failure("the answer broke off before its end")

    @contextmanager
    def _exchange(self, method: str, path: str, body: bytes | None = None) -> Iterator[http.client.HTTPResponse]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=CONNECT_S)
        try:
            connection.connect()
            connection.sock.settimeout(SILENCE_S)
            headers = {"Content-Type": "application/json", "User-Agent": "penstock", **self._headers}
            connection.request(method, self._path + path, body, headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise Failure(_error_text(response.status, response.read(65536)))
            yield response
        except ConnectionRefusedError as error:
            raise Failure(f"nothing answers at {self.url}; start it with: penstock up") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failure(f"{self.url}: {error or type(error).__name__}") from error
        finally:
            connection.close()


def _text(chunk: Any) -> Iterator[str]:
    """The pieces of text in one event of a stream.

    Raises:
        Failure: the event is an error.
    """
    if "error" in chunk:
        raise Failure(str(chunk["error"].get("message", chunk["error"])))
    for choice in chunk.get("choices", ()):
        text = (choice.get("delta") or {}).get("content")
        if text:
            yield text


def _error_text(status: int, body: bytes) -> str:
    """What an error answer says, in one sentence."""
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, TypeError, KeyError):
        message = body.decode("utf-8", "replace").strip()[:500] or "no explanation"
    return f"{message} (HTTP {status})"
