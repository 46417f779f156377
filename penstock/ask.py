"""What `penstock up` says when all is ready: how to use it, and the answer to a first question."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from penstock.client import Client
from penstock.failure import Failure

QUESTION = "What is Penstock?"


class Shown(Protocol):
    """What the text depends on."""

    @property
    def state(self) -> Path: ...
    @property
    def keyed(self) -> bool: ...


def welcome(url: str, models: Sequence[str], shown: Shown) -> str:
    """Pure. The URL, a `curl` that can be pasted, and what else can be done."""
    if not models:
        return f"Penstock listens at {url}. No service runs; add one with: penstock apply -f FILE"
    body = {"model": models[0], "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    key = '  -H "Authorization: Bearer $PENSTOCK_API_KEY" \\\n' if shown.keyed else ""
    return (
        f"\nPenstock serves {', '.join(models)} at {url}/v1\n\n"
        f"curl -N {url}/v1/chat/completions \\\n"
        f"{key}"
        f"  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body))}\n\n"
        f"penstock chat {models[0]} --url {url}   talks to it from another terminal\n"
        f"Engines write their logs to {shown.state / 'logs'}. Ctrl-C stops.\n"
    )


class Asker:
    """Asks one question of one model and prints the answer as it comes."""

    def __init__(self, url: str, key: str | None, model: str) -> None:
        self._client = Client(url, key)
        self._model = model

    def ask(self, question: str) -> None:
        """Print question and answer; a failure is printed and nothing else happens."""
        out = sys.stdout
        out.write(f"{self._model} is asked: {question}\n")
        try:
            for piece in self._client.chat(self._model, [{"role": "user", "content": question}]):
                out.write(piece)
                out.flush()
        except Failure as failure:
            out.write(f"penstock: {failure}")
        out.write("\n")
        out.flush()
