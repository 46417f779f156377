"""The terminal chat, and the client below it, against a real small server."""

import io
import json
import threading
from collections.abc import Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from penstock.ask import Asker
from penstock.chat import Chat, converse
from penstock.client import Client, Message
from penstock.failure import Failure


class Api(BaseHTTPRequestHandler):
    """Answers as a script says: path -> (status, body lines)."""

    script: ClassVar[dict[str, tuple[int, list[bytes]]]] = {}
    asked: ClassVar[list[dict[str, Any]]] = []

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        """Models."""
        self.asked.append({"path": self.path, "authorization": self.headers.get("Authorization")})
        self._send()

    def do_POST(self) -> None:
        """Chats."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body | {"path": self.path})
        self._send()

    def _send(self) -> None:
        status, lines = self.script.get(self.path, (404, [b'{"error": {"message": "no such path"}}']))
        self.send_response(status)
        self.end_headers()
        for line in lines:
            self.wfile.write(line)


@pytest.fixture
def api() -> Iterator[tuple[str, type[Api]]]:
    handler = type("Bound", (Api,), {"script": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


CHAT = "/v1/chat/completions"
END = b"data: [DONE]\n\n"


def test_an_answer_comes_piece_by_piece(api: tuple[str, type[Api]]) -> None:
    url, server = api
    odd = [b": keep-alive\n\n", b'data: {"choices": []}\n\n', b'data: {"choices": [{"delta": {}}]}\n\n']
    server.script[CHAT] = (200, [*odd, event("grün"), event("\n"), END])
    messages: list[Message] = [{"role": "user", "content": "?"}]
    assert list(Client(url + "/v1/").chat("demo", messages)) == ["grün", "\n"]
    assert server.asked == [{"path": CHAT, "model": "demo", "messages": messages, "stream": True}]


@pytest.mark.parametrize(
    ("status", "lines", "message"),
    [
        (401, [b'{"error": {"message": "no key"}}'], r"no key \(HTTP 401\)"),
        (502, [b"<html>bad gateway"], r"<html>bad gateway \(HTTP 502\)"),
        (500, [], r"no explanation \(HTTP 500\)"),
        (200, [event("a"), b'data: {"error": {"message": "engine died"}}\n\n'], "engine died"),
        (200, [event("a")], "the answer broke off"),
        (200, [b"data: {nonsense\n\n"], "http://"),
    ],
)
def test_what_goes_wrong_is_told(api: tuple[str, type[Api]], status: int, lines: list[bytes], message: str) -> None:
    url, server = api
    server.script[CHAT] = (status, lines)
    with pytest.raises(Failure, match=message):
        list(Client(url).chat("demo", []))


def test_models_and_the_key(api: tuple[str, type[Api]]) -> None:
    url, server = api
    server.script["/v1/models"] = (200, [b'{"data": [{"id": "a"}]}'])
    assert Client(url, "sk-1").models() == [{"id": "a"}]
    assert server.asked[0]["authorization"] == "Bearer sk-1"
    server.script["/v1/models"] = (200, [b"[]"])
    with pytest.raises(Failure, match="does not answer like an OpenAI API"):
        Client(url).models()


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999", "http://[", ""])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(Failure, match="is not a URL"):
        Client(url)


def test_nobody_there() -> None:
    with pytest.raises(Failure, match=r"nothing answers at 127\.0\.0\.1:1; start it with: penstock up"):
        Client("127.0.0.1:1").models()


def test_the_first_question_is_asked_and_a_failure_is_told(
    api: tuple[str, type[Api]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, server = api
    server.script[CHAT] = (200, [event("Hello"), event("."), END])
    Asker(url, None, "demo").ask("Who?")
    assert capsys.readouterr().out == "demo is asked: Who?\nHello.\n"
    server.script.clear()
    Asker(url, None, "demo").ask("Who?")
    assert capsys.readouterr().out == "demo is asked: Who?\npenstock: no such path (HTTP 404)\n"


class Scripted:
    """Answers from a list; an exception in it is raised."""

    def __init__(self, *answers: list[str | BaseException]) -> None:
        self.answers = list(answers)
        self.seen: list[list[Message]] = []
        self.closed = 0

    def chat(self, model: str, messages: list[Message]) -> Generator[str, None, None]:
        self.seen.append(list(messages))
        try:
            for piece in self.answers.pop(0):
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self.closed += 1


def talk(client: Scripted, *lines: str) -> tuple[str, list[str], Chat]:
    out, notes = io.StringIO(), list[str]()
    chat = Chat(client, "demo", out, notes.append)
    for line in lines:
        chat.say(line)
    return out.getvalue(), notes, chat


def test_the_conversation_is_remembered_and_can_be_forgotten() -> None:
    client = Scripted(["Hi", "!"], ["Again"], ["New"])
    out, notes, chat = talk(client, "one", " two ", "/clear", "three")
    assert out == "Hi!\nAgain\nNew\n"
    assert [m["content"] for m in client.seen[1]] == ["one", "Hi!", "two"]
    assert [m["content"] for m in client.seen[2]] == ["three"]
    assert [m["role"] for m in chat.history] == ["user", "assistant"]
    assert notes == ["The conversation is forgotten."]


def test_commands() -> None:
    client = Scripted()
    _, notes, chat = talk(client, "", "  ", "/help", "/what is this")
    assert "/clear" in notes[0]
    assert notes[1] == "There is no command /what; /help lists them."
    assert not chat.say("/exit")
    assert not chat.say("/quit")
    assert client.seen == []


def test_ctrl_c_stops_the_answer_and_keeps_what_was_shown() -> None:
    client = Scripted(["Half", KeyboardInterrupt()], [KeyboardInterrupt()], ["ok"])
    out, notes, chat = talk(client, "one", "two", "three")
    assert out == "Half\nok\n"
    assert [m["content"] for m in chat.history] == ["one", "Half", "three", "ok"]
    assert notes == ["\nStopped.", "\nStopped."]
    assert client.closed == 3


def test_a_failed_answer_is_taken_back() -> None:
    client = Scripted([Failure("down")], ["ok"])
    chat = Chat(client, "demo", io.StringIO(), lambda _: None)
    with pytest.raises(Failure):
        chat.say("one")
    chat.say("two")
    assert [m["content"] for m in client.seen[1]] == ["two"]


def test_questions_are_read_from_a_pipe_until_its_end_or_a_command() -> None:
    client = Scripted(["a"], ["b"])
    out = io.StringIO()
    converse(Chat(client, "demo", out, lambda _: None), io.StringIO("one\n\ntwo"), terminal=False)
    assert out.getvalue() == "a\nb\n"
    converse(Chat(client, "demo", out, lambda _: None), io.StringIO("/exit\nthree\n"), terminal=False)
    broken = Scripted([Failure("down")])
    with pytest.raises(Failure):
        converse(Chat(broken, "demo", out, lambda _: None), io.StringIO("one\n"), terminal=False)


def test_ctrl_c_between_answers_does_not_leave_however_often() -> None:
    client, notes = Scripted(["a"]), list[str]()
    keys: list[str | BaseException] = [KeyboardInterrupt(), KeyboardInterrupt(), "one\n", ""]

    class Keyboard(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # a fake of one method
            key = keys.pop(0)
            if isinstance(key, BaseException):
                raise key
            return key

    converse(Chat(client, "demo", io.StringIO(), notes.append), Keyboard(), terminal=False)
    assert notes == ["\n(Ctrl-D or /exit leaves.)"] * 2
    assert len(client.seen) == 1
