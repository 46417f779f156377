"""The documented application: every path, its OpenAPI document, and the errors of what it serves itself."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from gateway.api.app import ApiPorts, build_api
from gateway.api.docs_page import render
from gateway.api.errors import GENERATE, INFERENCE
from gateway.api.examples import EXAMPLES
from gateway.api.models import unknown_model
from gateway.config import settings_of
from gateway.keys import KeyRing, parse_keys
from serving.errors import ApiError, NoEndpoint
from serving.routes import Route, RouteTable

OPENAI_POSTS = ("chat/completions", "completions", "embeddings", "rerank", "responses")
DOCUMENTED = {
    *((f"{prefix}/{path}", "post") for prefix in ("/v1", "/openai/v1") for path in OPENAI_POSTS),
    *((f"{prefix}/{path}", "get") for prefix in ("/v1", "/openai/v1") for path in ("models", "models/{model}")),
    ("/v2/models/{model}/generate", "post"),
    ("/v2/models/{model}/generate_stream", "post"),
    ("/v2/models/{model}/versions/{version}/generate", "post"),
    ("/v2/models/{model}/versions/{version}/generate_stream", "post"),
    *((path, "get") for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json")),
}
TABLE = RouteTable.of(
    [Route("demo", ("demo", "org/alias"), (), created_s=5), Route("other", ("other",), (), created_s=6)]
)
KEYS = KeyRing(parse_keys("k tenant").tenants)
AUTHORIZED = {"Authorization": "Bearer k"}

# What the `openai` package, version 3, can send.
OPENAI_FIELDS = {
    "ChatCompletionRequest": """
        audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
        messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty
        prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort response_format
        safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools
        top_logprobs top_p user verbosity web_search_options""",
    "CompletionRequest": """
        best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty prompt seed
        stop stream stream_options suffix temperature top_p user""",
    "EmbeddingRequest": "dimensions encoding_format input model user",
    "ResponseRequest": """
        access_programs background context_management conversation image include input instructions
        max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id
        prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier
        service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p
        truncation user""",
}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An inference callable that answers with what it was given."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    start = {"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["path"].encode())]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a secret in a message")


async def no_endpoint(scope: Scope, receive: Receive, send: Send) -> None:
    raise NoEndpoint("No replica is ready.", retry_after_s=7)


def build(
    inference: Any = echo,
    keys: KeyRing = KeyRing.open(),  # noqa: B008 - immutable
    ready: str | None = None,
    docs: bool = True,
    cors: dict[str, Any] | None = None,
) -> FastAPI:
    ports = ApiPorts(lambda: TABLE, keys.tenant_of, lambda: ready, lambda: b"up 1\n", inference)
    return build_api(ports, settings_of({"docs": docs, "cors": cors or {}}))


async def ask(app: FastAPI, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.request(method, path, **options)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(build().openapi()))
    return found


# The document


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield path, verb, operation


def test_every_path_is_there_and_no_other(document: dict[str, Any]) -> None:
    assert {(path, verb) for path, verb, _ in operations(document)} == DOCUMENTED


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for path, verb, operation in operations(document):
        assert operation["summary"], path
        assert set(operation["tags"]) <= tags
        assert operation["responses"]["200"]["content"]
        if verb == "post":
            (body,) = operation["requestBody"]["content"].values()
            assert body["examples"]
            assert operation["security"] == [{"bearer": []}]


def test_path_parameters_are_declared(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        declared = {p["name"] for p in operation.get("parameters", ()) if p.get("in") == "path"}
        assert declared == {part.strip("{}") for part in path.split("/") if part.startswith("{")}


def test_every_error_is_documented(document: dict[str, Any]) -> None:
    statuses = {str(error.status) for error in INFERENCE}
    for path in OPENAI_POSTS:
        responses = document["paths"][f"/v1/{path}"]["post"]["responses"]
        assert set(responses) == {"200", "default"} | statuses
    found = document["paths"]["/v2/models/{model}/generate"]["post"]["responses"]
    assert {"422", "424", "429", "500"} <= set(found)
    assert {str(error.status) for error in GENERATE} >= {"422", "424", "429", "500"}
    assert "Retry-After" in document["paths"]["/v1/completions"]["post"]["responses"]["503"]["headers"]


def bodies(value: Any) -> Iterator[dict[str, Any]]:
    """Every media type of the document: an object with a schema."""
    if isinstance(value, dict):
        if "schema" in value and "examples" in value:
            yield value
        for inner in value.values():
            yield from bodies(inner)
    if isinstance(value, list):
        for inner in value:
            yield from bodies(inner)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    whole = {**schema, "components": document["components"]}
    Draft202012Validator.check_schema(whole)
    return Draft202012Validator(whole)


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    count = 0
    for body in bodies(document["paths"]):
        check = validator(document, body["schema"])
        for example in body["examples"].values():
            check.validate(example["value"])
            count += 1
    assert count > 200


def test_every_event_of_an_example_stream_fits_its_schema(document: dict[str, Any]) -> None:
    streams = 0
    for body in bodies(document["paths"]):
        shape = body["schema"].get("x-event-schema")
        if shape is None:
            continue
        streams += 1
        check = validator(document, shape)
        events = body["examples"]["stream"]["value"].removesuffix("data: [DONE]\n\n")
        for event in events.split("\n\n")[:-1]:
            check.validate(json.loads(event.removeprefix("data: ")))
    assert streams == 8


def test_examples_are_all_used(document: dict[str, Any]) -> None:
    assert set(EXAMPLES) <= set(document["components"]["schemas"])


def test_shapes_allow_what_they_do_not_know(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("additionalProperties") is True, name
        assert schema["description"], name


@pytest.mark.parametrize(("name", "fields"), OPENAI_FIELDS.items())
def test_the_parameters_of_openai_clients_are_described(document: dict[str, Any], name: str, fields: str) -> None:
    assert set(fields.split()) <= set(document["components"]["schemas"][name]["properties"])


async def test_the_document_is_served_as_it_is(document: dict[str, Any]) -> None:
    answer = await ask(build(), "GET", "/openapi.json")
    assert answer.json() == document


# The page


class Page(HTMLParser):
    """Checks that tags are closed, and collects links, anchors and what would be fetched from elsewhere."""

    VOID = frozenset({"meta", "br", "link", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {found["id"] or ""} if "id" in found else set()
        self.links |= {found["href"] or ""} if tag == "a" else set()
        self.fetched += [value or "" for name, value in attrs if name == "src"]
        self.fetched += [tag] if tag in {"script", "link", "iframe"} else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    answer = await ask(build(), "GET", "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.text)
    assert not page.open
    assert not page.fetched
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json"}
    for path, _ in DOCUMENTED:
        assert f"<code>{path}</code>" in answer.text


def test_the_page_shows_text_as_text(document: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(document))
    changed["paths"]["/healthz"]["get"]["summary"] = "<script>alert(1)</script>"
    changed["components"]["schemas"]["Health"]["properties"]["x"] = {"description": "<b>"}
    page = Page(render(changed))
    assert not page.fetched
    assert not page.open


async def test_document_and_page_are_made_once() -> None:
    app = build()
    for path in ("/docs", "/openapi.json"):
        first = await ask(app, "GET", path)
        assert (await ask(app, "GET", path)).content == first.content
    assert app.openapi() is app.openapi()


async def test_the_documentation_can_be_left_out() -> None:
    app = build(docs=False)
    for path in ("/docs", "/openapi.json"):
        assert (await ask(app, "GET", path)).status_code == 404


# Inference


@pytest.mark.parametrize(
    "path",
    [
        *(f"{prefix}/{path}" for prefix in ("/v1", "/openai/v1") for path in OPENAI_POSTS),
        "/v2/models/demo/generate",
        "/v2/models/org/alias/generate_stream",
        "/v2/models/org/alias/versions/1/generate",
        "/v2/models/demo/versions/1/generate_stream",
    ],
)
async def test_inference_is_handed_on_unread(path: str) -> None:
    answer = await ask(build(), "POST", path, content=b"\xffnot json")
    assert (answer.status_code, answer.content, answer.headers["x-path"]) == (200, b"\xffnot json", path)


async def test_errors_of_inference() -> None:
    answer = await ask(build(no_endpoint), "POST", "/v1/completions")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["error"]["code"] == "no_endpoint"
    answer = await ask(build(no_endpoint), "POST", "/v2/models/demo/generate")
    assert (answer.status_code, answer.json()) == (503, {"error": "No replica is ready."})


async def test_a_fault_tells_nothing_of_the_inside() -> None:
    answer = await ask(build(fail), "POST", "/v1/completions")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text


# Models


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1"])
async def test_models(prefix: str) -> None:
    listed = (await ask(build(), "GET", f"{prefix}/models")).json()
    assert listed["object"] == "list"
    assert [(m["id"], m["created"]) for m in listed["data"]] == [("demo", 5), ("org/alias", 5), ("other", 6)]
    for model in listed["data"]:
        assert (model["object"], model["owned_by"]) == ("model", "penstock")
        assert (await ask(build(), "GET", f"{prefix}/models/{model['id']}")).json() == model


@pytest.mark.parametrize("name", ["nope", "org", "", "a/b/c", "%00", "x" * 5000])
async def test_a_model_that_is_not_there(name: str) -> None:
    answer = await ask(build(), "GET", f"/v1/models/{name}")
    error = answer.json()["error"]
    assert answer.status_code == 404
    assert (error["code"], error["type"], error["param"]) == ("model_not_found", "not_found_error", "model")
    assert "demo, org/alias, other" in error["message"]
    assert len(error["message"]) < 300


def test_many_models_are_not_all_listed() -> None:
    table = RouteTable.of(Route(f"m{i}", (f"m{i}",), ()) for i in range(50))
    assert "and 30 more" in unknown_model("x", table).message
    assert "no models here yet" in unknown_model("x", RouteTable()).message


@pytest.mark.parametrize("path", ["/v1/models", "/openai/v1/models/demo"])
async def test_models_need_a_key_where_keys_are_on(path: str) -> None:
    app = build(keys=KEYS)
    assert (await ask(app, "GET", path, headers=AUTHORIZED)).status_code == 200
    for headers, code in (({}, "missing_api_key"), ({"Authorization": "Bearer x"}, "invalid_api_key")):
        answer = await ask(app, "GET", path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_wrong_key_learns_nothing_of_models() -> None:
    assert (await ask(build(keys=KEYS), "GET", "/v1/models/nope")).status_code == 401


# Probes and metrics


async def test_probes_and_metrics_need_no_key() -> None:
    app = build(keys=KEYS)
    assert (await ask(app, "GET", "/healthz")).json() == {"status": "ok"}
    assert (await ask(app, "GET", "/readyz")).json() == {"status": "ready"}
    metrics = await ask(app, "GET", "/metrics")
    assert (metrics.text, metrics.headers["content-type"]) == (
        "up 1\n",
        "text/plain; version=0.0.4; charset=utf-8",
    )
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await ask(app, "HEAD", path)).status_code == 200


async def test_not_ready() -> None:
    app = build(ready="no engine answers")
    answer = await ask(app, "GET", "/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"status": "not ready", "reason": "no engine answers"}
    assert (await ask(app, "GET", "/healthz")).status_code == 200


# Paths and methods that are not there


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat", "/v1/chat/completions/", "/admin", "/%00", "/" + "x" * 5000])
async def test_unknown_paths(path: str) -> None:
    answer = await ask(build(), "POST", path)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("path_not_found", "not_found_error", None)
    assert len(error["message"]) < 400


async def test_unknown_paths_of_the_inference_protocol() -> None:
    answer = await ask(build(), "POST", "/v2/models/demo/nope")
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/openai/v1/embeddings", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("DELETE", "/v1/models/demo", "GET"),
        ("POST", "/healthz", "GET"),
        ("BREW", "/metrics", "GET"),
    ],
)
async def test_wrong_methods(method: str, path: str, allow: str) -> None:
    answer = await ask(build(), method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert method in answer.json()["error"]["message"]


async def test_other_errors_of_the_framework_are_faults() -> None:
    app = build()

    async def teapot() -> None:
        raise HTTPException(418, "inside")

    app.add_api_route("/teapot", teapot)
    answer = await ask(app, "GET", "/teapot")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "inside" not in answer.text


@pytest.mark.parametrize("host", ["[", "a b", "", "[::1", "x" * 5000])
async def test_a_host_header_that_is_no_host(host: str) -> None:
    headers = {"Host": host}
    assert (await ask(build(), "POST", "/nope", headers=headers)).status_code == 404
    assert (await ask(build(), "PUT", "/v1/models", headers=headers)).status_code == 405
    assert (await ask(build(), "GET", "/v1/models/nope", headers=headers)).status_code == 404
    assert (await ask(build(fail), "POST", "/v1/completions", headers=headers)).status_code == 500


# Cross-origin requests

PAGE = "https://chat.example.com"
CORS = {"allow_origins": [PAGE]}
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


async def has_cors(scope: Scope, receive: Receive, send: Send) -> None:
    """An inference callable that adds the headers itself."""
    headers = [(b"Access-Control-Allow-Origin", b"own")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/nope", "/nope", "/healthz"])
async def test_a_page_may_read_every_answer(path: str) -> None:
    app = build(cors=CORS)
    answer = await ask(app, "GET", path, headers={"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["vary"] == "Origin"
    other = await ask(app, "GET", path, headers={"Origin": "https://other.example.com"})
    assert "access-control-allow-origin" not in other.headers
    assert other.headers["vary"] == "Origin"


async def test_a_page_may_read_a_fault() -> None:
    answer = await ask(build(fail, cors=CORS), "POST", "/v1/completions", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, PAGE)


async def test_headers_that_are_there_are_not_doubled() -> None:
    answer = await ask(build(has_cors, cors=CORS), "POST", "/v1/completions", headers={"Origin": PAGE})
    assert answer.headers.get_list("access-control-allow-origin") == ["own"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v2/models/demo/generate"])
async def test_preflights(path: str) -> None:
    """They carry no key, by the standard, and need none."""
    answer = await ask(build(cors=CORS, keys=KEYS), "OPTIONS", path, headers=PREFLIGHT)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
    refused = await ask(build(cors=CORS), "OPTIONS", path, headers={**PREFLIGHT, "Origin": "https://x.example"})
    assert refused.status_code == 403


async def test_cors_is_off_by_default() -> None:
    answer = await ask(build(), "GET", "/v1/models", headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await ask(build(), "OPTIONS", "/v1/completions", headers=PREFLIGHT)).status_code == 405


async def test_start_and_stop_of_the_application_pass_the_layer() -> None:
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.shutdown" if sent else "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await build(cors=CORS)({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# docs/api.md

DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def leaves(error: type[ApiError]) -> Iterator[type[ApiError]]:
    below = error.__subclasses__()
    if not below:
        yield error
    for each in below:
        yield from leaves(each)


def test_the_documentation_names_every_path(document: dict[str, Any]) -> None:
    found = {(path, verb) for path, verb in re.findall(r"^\| `(/[^`]*)` \| (\w+) ", DOCS, re.MULTILINE)}
    listed = {(path, verb.upper()) for path, verb, _ in operations(document)}
    assert found == {(path, verb) for path, verb in listed if not path.startswith("/openai/")}


def test_the_documentation_names_every_error() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (\S+) \|", DOCS, re.MULTILINE)
    found = {(int(status), kind, None if code == "-" else code.strip("`")) for status, kind, code in rows}
    tree = [e for e in leaves(ApiError) if e.__module__ == "serving.errors"]
    assert found == {(error.status, error.type, error.code) for error in tree}
