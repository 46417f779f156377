"""Generate requests of the Open Inference Protocol, there and back."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oip import (
    StreamTranslator,
    engine_error,
    engine_message,
    error_body,
    from_completion,
    to_completion,
)
from serving.errors import (
    ApiError,
    BodyTooLarge,
    EngineBroken,
    EngineTimeout,
    EngineUnreachable,
    Internal,
    InvalidJson,
    InvalidKey,
    InvalidRequest,
    NoEndpoint,
    Overloaded,
    UnknownModel,
)
from serving.oip import GenerateResponse, GenerateStreamResponse, GenerationFailed, InvalidInput


def asked(body: object, *, stream: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_completion(json.dumps(body).encode(), "m", stream=stream))
    return found


def completion(text: str, **choice: object) -> bytes:
    given = {"index": 0, "text": text, "finish_reason": "stop", **choice}
    return json.dumps({"id": "cmpl-1", "object": "text_completion", "choices": [given]}).encode()


def answered(body: bytes, version: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(from_completion(body, "m", version))
    return found


def frames(data: bytes) -> list[dict[str, Any]]:
    """The payloads of server-sent events."""
    if not data:
        return []
    assert data.endswith(b"\n\n")
    events = data[:-2].split(b"\n\n")
    assert all(event.startswith(b"data: ") and b"\n" not in event for event in events)
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


# Requests


def test_the_least_request() -> None:
    assert asked({"text_input": "hi"}) == {"model": "m", "prompt": "hi", "max_tokens": 20}


@pytest.mark.parametrize("parameters", [None, {}])
def test_no_parameters(parameters: object) -> None:
    assert asked({"text_input": "hi", "parameters": parameters}) == asked({"text_input": "hi"})


def test_a_stream_is_asked_for() -> None:
    assert asked({"text_input": "hi"}, stream=True)["stream"] is True


def test_every_parameter() -> None:
    parameters = {"temperature": 0, "top_p": 1, "max_tokens": 3, "stop": ["\n"], "details": False, "n": 1}
    assert asked({"text_input": "", "parameters": parameters}) == {
        "model": "m",
        "prompt": "",
        "max_tokens": 3,
        "temperature": 0,
        "top_p": 1,
        "stop": ["\n"],
        "n": 1,
    }


def test_unknown_parameters_keep_their_bytes() -> None:
    body = b'{"text_input": "hi", "other": 1, "parameters": {"seed": 1e2, "x": {"y" :[ 1, "\\u00e9"]}}}'
    assert b'"seed":1e2,"x":{"y" :[ 1, "\\u00e9"]}' in to_completion(body, "m", stream=False)


def test_null_is_absent() -> None:
    parameters = {"max_tokens": None, "temperature": None, "seed": None, "stop": None}
    assert asked({"text_input": "hi", "parameters": parameters}) == asked({"text_input": "hi"})


def test_details_ask_for_tokens() -> None:
    found = asked({"text_input": "hi", "parameters": {"details": True}})
    assert (found["logprobs"], found["return_token_ids"]) == (1, True)
    assert "details" not in found
    given = asked({"text_input": "hi", "parameters": {"details": True, "logprobs": 5}})
    assert given["logprobs"] == 5


@pytest.mark.parametrize(
    ("body", "param", "why"),
    [
        (b"{}", None, "missing required field `text_input`"),
        (b"[]", None, "The request body: Expected `object`"),
        (b'{"text_input": 3}', "text_input", "'text_input': Expected `str`, got `int`"),
        (b'{"text_input": null}', "text_input", "got `null`"),
        (b'{"text_input": "a", "parameters": []}', "parameters", "'parameters': Expected `object`"),
        (b'{"text_input": "a", "parameters": {"temperature": -0.1}}', "parameters.temperature", ">= 0"),
        (
            b'{"text_input": "a", "parameters": {"temperature": 1e999}}',
            "parameters.temperature",
            "out of range",
        ),
        (b'{"text_input": "a", "parameters": {"temperature": "1"}}', "parameters.temperature", "got `str`"),
        (b'{"text_input": "a", "parameters": {"temperature": true}}', "parameters.temperature", "got `bool`"),
        (b'{"text_input": "a", "parameters": {"top_p": 1.1}}', "parameters.top_p", "<= 1"),
        (b'{"text_input": "a", "parameters": {"top_p": -1}}', "parameters.top_p", ">= 0"),
        (b'{"text_input": "a", "parameters": {"max_tokens": 0}}', "parameters.max_tokens", ">= 1"),
        (
            b'{"text_input": "a", "parameters": {"max_tokens": 1e20}}',
            "parameters.max_tokens",
            "Expected `int",
        ),
        (
            b'{"text_input": "a", "parameters": {"max_tokens": 2147483648}}',
            "parameters.max_tokens",
            "<= 2147",
        ),
        (b'{"text_input": "a", "parameters": {"max_tokens": 1.5}}', "parameters.max_tokens", "Expected `int"),
        (b'{"text_input": "a", "parameters": {"stop": "x"}}', "parameters.stop", "Expected `array"),
        (b'{"text_input": "a", "parameters": {"stop": ["x", 1]}}', "parameters.stop[1]", "Expected `str`"),
        (b'{"text_input": "a", "parameters": {"details": 1}}', "parameters.details", "Expected `bool"),
        (b'{"text_input": "a", "parameters": {"n": 2}}', "parameters.n", "<= 1"),
        (b'{"text_input": "a", "parameters": {"model": "x"}}', "parameters.model", "named in the path"),
        (b'{"text_input": "a", "parameters": {"stream": true}}', "parameters.stream", "/generate_stream"),
        (b'{"text_input": "a", "parameters": {"prompt": "x"}}', "parameters.prompt", "text_input"),
    ],
)
def test_requests_that_are_refused(body: bytes, param: str | None, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        to_completion(body, "m", stream=False)
    assert why in caught.value.message
    assert caught.value.param == param
    assert caught.value.status == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"text_input": "\xff"}',
        b'{"text_input": "\\ud800"}',
        b'{"text_input": "a"} x',
        b'{"x": ' + b"[" * 100_000,
        b'{"text_input": "a", "parameters": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"text_input": "a", "parameters": {"\xff": 1}}',
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        to_completion(body, "m", stream=False)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_translated_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidInput, InvalidJson):
        assert json.loads(to_completion(body, "m", stream=True))["stream"] is True


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(), st.dictionaries(st.text(min_size=1).map("x_".__add__), json_values, max_size=4))
def test_unknown_parameters_survive(text: str, parameters: dict[str, Any]) -> None:
    found = asked({"text_input": text, "parameters": parameters})
    assert found["prompt"] == text
    for name, value in parameters.items():
        assert found.get(name) == value


# Whole answers


def test_an_answer() -> None:
    assert answered(completion(" world")) == {
        "text_output": " world",
        "model_name": "m",
        "details": {"finish_reason": "eos_token", "logprobs": []},
    }


def test_the_version_is_the_one_asked_for() -> None:
    assert answered(completion("x"), "3")["model_version"] == "3"


@pytest.mark.parametrize(
    ("finish", "stop_reason", "word"),
    [
        ("length", None, "length"),
        ("stop", None, "eos_token"),
        ("stop", "\n", "stop_sequence"),
        ("stop", 128009, "stop_sequence"),
        ("content_filter", None, "eos_token"),
        (None, None, "eos_token"),
    ],
)
def test_why_an_answer_ended(finish: str | None, stop_reason: str | int | None, word: str) -> None:
    body = completion("x", finish_reason=finish, stop_reason=stop_reason)
    assert answered(body)["details"]["finish_reason"] == word


def test_tokens() -> None:
    logprobs = {"tokens": [" a", "token_id:7", "</s>"], "token_logprobs": [-0.5, None], "top_logprobs": None}
    body = completion(" a!", logprobs=logprobs, token_ids=[261])
    assert answered(body)["details"]["logprobs"] == [
        {"id": 261, "text": " a", "logprob": -0.5, "special": False},
        {"id": 7, "text": "token_id:7", "logprob": None, "special": False},
        {"id": -1, "text": "</s>", "logprob": None, "special": True},
    ]


def test_a_mark_that_was_written_out_is_no_special_token() -> None:
    body = completion("<b>", logprobs={"tokens": ["<b>"], "token_logprobs": [-0.1]})
    assert answered(body)["details"]["logprobs"][0]["special"] is False


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"{}", b'{"choices": []}', b'{"choices": [{"text": 3}]}'])
def test_what_is_no_completion(body: bytes) -> None:
    with pytest.raises(EngineBroken):
        from_completion(body, "m")


def test_a_nested_bomb_is_no_completion() -> None:
    with pytest.raises(EngineBroken):
        from_completion(b'{"x": ' + b"[" * 100_000, "m")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "too long", "code": 400}}', "too long"),
        (b'{"error": "too long"}', "too long"),
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"error": {}}', "The engine failed without saying why."),
    ],
)
def test_an_error_in_place_of_an_answer(body: bytes, message: str) -> None:
    with pytest.raises(GenerationFailed) as caught:
        from_completion(body, "m")
    assert caught.value.message == message


@pytest.mark.parametrize("finish", ["abort", "error"])
def test_an_engine_that_gives_up(finish: str) -> None:
    with pytest.raises(GenerationFailed, match="gave up"):
        from_completion(completion("x", finish_reason=finish), "m")


# Streams


def test_a_stream() -> None:
    stream = StreamTranslator("m", "2")
    head = {"model_name": "m", "model_version": "2"}
    assert stream.event(completion("", finish_reason=None)) == b""
    assert frames(stream.event(completion("a", finish_reason=None))) == [{"text_output": "a", **head}]
    last = frames(stream.event(completion("", finish_reason="length")))
    assert last == [{"text_output": "", **head, "details": {"finish_reason": "length"}}]
    assert stream.event(b'{"choices": [], "usage": {"prompt_tokens": 1}}') == b""
    assert (stream.ended, stream.failed) == (False, False)
    assert stream.event(b"[DONE]") == b""
    assert (stream.ended, stream.failed) == (True, False)
    assert stream.event(completion("more")) == b""
    assert stream.error(Internal("late")) == b""


def test_a_frame_for_each_token() -> None:
    logprobs = {"tokens": [" a", " b"], "token_logprobs": [-1, -2]}
    found = frames(StreamTranslator("m").event(completion(" a b", logprobs=logprobs, token_ids=[1, 2])))
    first = {"id": 1, "text": " a", "logprob": -1.0, "special": False}
    second = {"id": 2, "text": " b", "logprob": -2.0, "special": False}
    assert found == [
        {"text_output": " a", "model_name": "m", "details": {"token": first}},
        {"text_output": " b", "model_name": "m", "details": {"finish_reason": "eos_token", "token": second}},
    ]


def test_one_token() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-1]}
    (found,) = frames(StreamTranslator("m").event(completion("a", logprobs=logprobs, finish_reason=None)))
    assert found["details"] == {"token": {"id": -1, "text": "a", "logprob": -1.0, "special": False}}


def test_tokens_that_do_not_add_up_to_the_text() -> None:
    logprobs = {"tokens": ["\ufffd", "\ufffd", "</s>"], "token_logprobs": [-1, -2, -3]}
    found = frames(StreamTranslator("m").event(completion("é", logprobs=logprobs)))
    assert [frame["text_output"] for frame in found] == ["é", "", ""]
    assert [frame["details"]["token"]["special"] for frame in found] == [False, False, True]
    assert ["finish_reason" in frame["details"] for frame in found] == [False, False, True]


def test_only_the_first_answer_is_translated() -> None:
    assert StreamTranslator("m").event(completion("x", index=1)) == b""


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b'{"error": {"message": "out of memory"}}', "out of memory"),
        (b"not json", "The engine's answer is not a completion."),
        (completion("x", finish_reason="abort"), "The engine gave up on the answer."),
    ],
)
def test_an_error_ends_the_stream(event: bytes, message: str) -> None:
    stream = StreamTranslator("m")
    assert frames(stream.event(event)) == [{"error": message}]
    assert stream.ended
    assert stream.failed
    assert stream.event(completion("x")) == b""
    assert stream.event(event) == b""


def test_an_error_of_the_gateway_ends_the_stream() -> None:
    stream = StreamTranslator("m")
    assert frames(stream.error(EngineTimeout("silent for 60 s"))) == [{"error": "silent for 60 s"}]
    assert stream.failed


@given(st.lists(st.text()))
def test_no_text_is_lost(texts: list[str]) -> None:
    stream = StreamTranslator("m")
    found = [frame for text in texts for frame in frames(stream.event(completion(text, finish_reason=None)))]
    assert "".join(frame["text_output"] for frame in found) == "".join(texts)


@given(st.lists(st.tuples(st.text(), st.booleans()), min_size=2))
def test_no_token_is_lost(tokens: list[tuple[str, bool]]) -> None:
    text = "".join(text for text, shown in tokens if shown)
    logprobs = {"tokens": [text for text, _ in tokens], "token_logprobs": [-1.0] * len(tokens)}
    found = frames(StreamTranslator("m").event(completion(text, logprobs=logprobs)))
    assert "".join(frame["text_output"] for frame in found) == text
    assert [frame["details"]["token"]["text"] for frame in found] == [text for text, _ in tokens]


# Errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("x"), 422),
        (InvalidJson("x"), 422),
        (InvalidInput("x"), 422),
        (InvalidKey("x"), 401),
        (UnknownModel("x"), 404),
        (BodyTooLarge("x"), 413),
        (GenerationFailed("x"), 424),
        (EngineUnreachable("x"), 424),
        (EngineBroken("x"), 424),
        (EngineTimeout("x"), 424),
        (Overloaded("x"), 429),
        (Internal("x"), 500),
        (NoEndpoint("x"), 503),
    ],
)
def test_errors_in_the_shape_of_the_protocol(error: ApiError, status: int) -> None:
    assert error_body(error) == (status, b'{"error":"x"}')


@pytest.mark.parametrize(
    ("status", "mapped"), [(400, 422), (422, 422), (429, 429), (500, 424), (503, 424), (401, 424), (404, 424)]
)
def test_errors_of_engines(status: int, mapped: int) -> None:
    assert engine_error(status, b'{"error": {"message": "no"}}') == (mapped, b'{"error":"no"}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"message": "no", "object": "error"}', "no"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'"no"', "no"),
        (b'{"detail": [{"loc": []}]}', "The engine failed without saying why."),
        (b"<html>", "The engine failed without saying why."),
        (b"[" * 100_000, "The engine failed without saying why."),
        (b"", "The engine failed without saying why."),
        (b"3", "The engine failed without saying why."),
    ],
)
def test_the_text_of_an_engine_error(body: bytes, message: str) -> None:
    assert engine_message(body) == message


def test_the_shapes_are_what_is_documented() -> None:
    """What is sent decodes strictly into the shapes of the vocabulary."""
    logprobs = {"tokens": [" a"], "token_logprobs": [-1]}
    whole = msgspec.json.decode(from_completion(completion(" a", logprobs=logprobs), "m"), type=GenerateResponse)
    assert whole.details is not None
    frame = StreamTranslator("m").event(completion(" a", logprobs=logprobs))
    part = msgspec.json.decode(frame[6:-2], type=GenerateStreamResponse)
    assert part.details is not None
    assert part.details.token == whole.details.logprobs[0]
