"""`curl`: answers, streams, keys, errors, and the Open Inference Protocol."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from engines.demo.questions import Pages
from tests.autoscaler.local.processes import soon
from tests.flow.asking import QUESTION, user
from tests.flow.programs import ENVIRONMENT, Stack, run

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Answer:
    """What came back. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The payloads of a stream."""
        assert self.headers["content-type"].startswith("text/event-stream")
        return [line.removeprefix("data: ") for line in self.body.splitlines() if line.startswith("data: ")]


def curl(*arguments: str, body: Any = None, key: str | None = None) -> Answer:
    """Run it. A `body` that is no text is sent as JSON."""
    command = ["curl", "--silent", "--show-error", "--include", "--no-buffer", *arguments]
    if key is not None:
        command += ["-H", f"Authorization: Bearer {key}"]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", body if isinstance(body, str) else json.dumps(body)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    head, _, text = done.stdout.partition("\n\n")
    status, *lines = head.splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(status.split()[1]), headers, text)


@pytest.fixture
def key(flow: Stack) -> str:
    """A key that is known."""
    return flow.keys["flow"]


def chat(**fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": "demo", "temperature": 0, "messages": user(QUESTION), **fields}


def test_a_whole_answer(flow: Stack, key: str, pages: Pages) -> None:
    answer = curl(f"{flow.api}/chat/completions", body=chat(), key=key)
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"] == pages.answer_to(QUESTION)
    assert int(answer.headers["content-length"]) == len(answer.body.encode())


def test_a_stream(flow: Stack, key: str, pages: Pages) -> None:
    answer = curl(f"{flow.api}/chat/completions", body=chat(stream=True), key=key)
    *chunks, done = answer.events
    assert done == "[DONE]"
    texts = [json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(texts) == pages.answer_to(QUESTION)
    assert answer.headers["cache-control"] == "no-cache"


def test_http_1_0_gets_the_same_stream(flow: Stack, key: str) -> None:
    newer = curl(f"{flow.api}/chat/completions", body=chat(stream=True), key=key)
    older = curl("--http1.0", f"{flow.api}/chat/completions", body=chat(stream=True), key=key)
    assert len(older.events) == len(newer.events)
    assert older.events[-1] == "[DONE]"


@pytest.mark.parametrize(
    ("given", "code"), [(None, "missing_api_key"), ("", "missing_api_key"), ("sk-wrong", "invalid_api_key")]
)
@pytest.mark.parametrize("path", ["chat/completions", "models"])
def test_keys(flow: Stack, given: str | None, code: str, path: str) -> None:
    answer = curl(f"{flow.api}/{path}", body=chat() if path != "models" else None, key=given)
    assert (answer.status, answer.json["error"]["code"]) == (401, code)
    assert answer.json["error"]["type"] == "authentication_error"


def test_a_new_key_is_taken_without_a_restart(flow: Stack) -> None:
    fresh = run("keys", "create", "--file", str(flow.state.parent / "keys.txt"), "--tenant", "late").strip()
    soon(lambda: curl(f"{flow.api}/models", key=fresh).status == 200)


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("/chat/completions", "-d", "{"), 400, "invalid_json"),
        (("/chat/completions", "-d", "{}"), 400, None),
        (("/chat/completions", "-d", '{"model": "other"}'), 404, "model_not_found"),
        (("/chat/completions",), 405, "method_not_allowed"),
        (("/chat/completion", "-d", "{}"), 404, "path_not_found"),
        (("/models/other",), 404, "model_not_found"),
    ],
)
def test_errors(flow: Stack, key: str, arguments: tuple[str, ...], status: int, code: str | None) -> None:
    path, *others = arguments
    answer = curl(flow.api + path, *others, key=key)
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["error"].keys() == {"message", "type", "param", "code"}


def test_what_needs_no_key(flow: Stack) -> None:
    assert curl(f"{flow.url}/healthz").status == 200
    assert curl(f"{flow.url}/readyz").status == 200
    assert "penstock_requests_total" in curl(f"{flow.url}/metrics").body
    assert "<html" in curl(f"{flow.url}/docs").body
    assert "/v1/chat/completions" in curl(f"{flow.url}/openapi.json").json["paths"]


# -- Open Inference Protocol ----------------------------------------------------------------------------------------

PROMPT = {"text_input": "Q: What is TTFT?\nA:", "parameters": {"temperature": 0, "max_tokens": 100}}


def test_generate(flow: Stack, key: str, pages: Pages) -> None:
    answer = curl(f"{flow.url}/v2/models/demo/generate", body=PROMPT, key=key)
    assert answer.status == 200
    assert answer.json["text_output"].strip() == pages.answer_to("What is TTFT?")
    assert answer.json["model_name"] == "demo"
    assert answer.json["details"]["finish_reason"] == "eos_token"


def test_generate_stream(flow: Stack, key: str, pages: Pages) -> None:
    answer = curl(f"{flow.url}/v2/models/demo/generate_stream", body=PROMPT, key=key)
    frames = [json.loads(event) for event in answer.events]
    assert "".join(frame["text_output"] for frame in frames).strip() == pages.answer_to("What is TTFT?")
    assert frames[-1]["details"]["finish_reason"] == "eos_token"
    assert len(frames) > 10


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
def test_details_name_every_token(flow: Stack, key: str, verb: str) -> None:
    body = {"text_input": "Penstock is", "parameters": {"temperature": 0, "max_tokens": 4, "details": True}}
    answer = curl(f"{flow.url}/v2/models/demo/versions/7/{verb}", body=body, key=key)
    if verb == "generate":
        tokens, whole, end = answer.json["details"]["logprobs"], answer.json["text_output"], answer.json
    else:
        frames = [json.loads(event) for event in answer.events]
        tokens = [frame["details"]["token"] for frame in frames if frame["details"]["token"]]
        whole, end = "".join(frame["text_output"] for frame in frames), frames[-1]
    assert "".join(token["text"] for token in tokens) == whole
    assert len(tokens) == 4
    assert (end["details"]["finish_reason"], end["model_version"]) == ("length", "7")


def test_errors_have_the_protocols_shape(flow: Stack, key: str) -> None:
    url = f"{flow.url}/v2/models/demo/generate"
    assert curl(url, body={"parameters": {}}, key=key).status == 422
    assert "temperature" in curl(url, body={"text_input": "", "parameters": {"temperature": -1}}, key=key).json["error"]
    unknown = curl(f"{flow.url}/v2/models/other/generate", body=PROMPT, key=key)
    assert unknown.status == 404
    assert "demo" in unknown.json["error"]
    assert curl(url, body=PROMPT).status == 401
