"""Refusals name the field, the value and what is allowed."""

import json
from typing import Any

import pytest

from engines.huggingface.request import (
    Bounds,
    chat_params,
    check_known,
    completion_params,
    decode,
    prompts_of,
)
from serving.errors import ApiError, ContextExceeded, InvalidJson, InvalidRequest
from serving.openai import ChatCompletionRequest, CompletionRequest

BOUNDS = Bounds(context_tokens=100, vocabulary_tokens=500, defaults={})
MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES} | fields).encode()


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b"{}", "model", "missing required field `model`"),
        (chat(messages=[]), "messages", "messages is []: expected `array` of length >= 1"),
        (chat(messages="hi"), "messages", "messages is 'hi': expected `array`, got `str`"),
        (chat(messages=[{"role": "user", "content": 5}]), "messages[0].content", "messages[0].content is 5"),
        (chat(messages=[{"content": "x"}]), "messages[0]", "missing required field `role`"),
        (chat(temperature=2.5), "temperature", "temperature is 2.5: expected `float` <= 2.0"),
        (chat(temperature="hot"), "temperature", "temperature is 'hot': expected `float | null`, got `str`"),
        (chat(top_p=0), "top_p", "top_p is 0: expected `float` > 0.0"),
        (chat(top_k=-2), "top_k", "top_k is -2: expected `int` >= -1"),
        (chat(min_p=1.1), "min_p", "min_p is 1.1"),
        (chat(n=0), "n", "n is 0: expected `int` >= 1"),
        (chat(n=10_000), "n", "expected `int` <= 128"),
        (chat(max_tokens=-1), "max_tokens", "max_tokens is -1"),
        (chat(max_tokens=1.5), "max_tokens", "max_tokens is 1.5"),
        (chat(presence_penalty=3), "presence_penalty", "presence_penalty is 3"),
        (chat(repetition_penalty=0), "repetition_penalty", "repetition_penalty is 0: expected `float` > 0.0"),
        (chat(top_logprobs=21, logprobs=True), "top_logprobs", "top_logprobs is 21: expected `int` <= 20"),
        (chat(stream="yes"), "stream", "stream is 'yes': expected `bool | null`, got `str`"),
        (chat(stop=[1]), "stop[0]", "stop[0] is 1: expected `str`, got `int`"),
        (chat(logit_bias={"1": 200}), None, "expected `float` <= 100"),
        (chat(messages=[{"role": "x" * 9, "content": ["y" * 300]}]), "messages[0].content[0]", "..."),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_a_reason(body: bytes, param: str | None, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(body, ChatCompletionRequest)
    assert message in refused.value.message
    if param is not None:
        assert refused.value.param == param


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"model": NaN}', b'{"a":' * 5000])
def test_what_is_not_json_is_refused_as_that(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        decode(body, ChatCompletionRequest)


@pytest.mark.parametrize("body", [b"[]", b"5", b"null", b'"x"'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"[Ee]xpected `object`"):
        decode(body, CompletionRequest)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"500": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"²": 1}}, "logit_bias"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop_token_ids": [500]}, "stop_token_ids"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_values_that_do_not_go_together_are_refused(fields: dict[str, Any], param: str) -> None:
    request = decode(chat(**fields), ChatCompletionRequest)
    with pytest.raises(InvalidRequest) as refused:
        chat_params(request, 10, BOUNDS)
    assert refused.value.param == param


def test_unknown_fields_and_nulls_are_ignored() -> None:
    body = chat(user="u", metadata={"a": 1}, service_tier="x", temperature=None, stop=None, n=None, seed=None)
    found = chat_params(decode(body, ChatCompletionRequest), 10, BOUNDS)
    assert (found.temperature, found.max_tokens, found.stop, found.logprobs) == (1.0, 90, (), None)


def test_max_completion_tokens_wins_and_the_context_bounds_it() -> None:
    body = chat(max_tokens=5, max_completion_tokens=7)
    assert chat_params(decode(body, ChatCompletionRequest), 10, BOUNDS).max_tokens == 7
    assert chat_params(decode(body, ChatCompletionRequest), 97, BOUNDS).max_tokens == 3


def test_a_prompt_without_room_for_an_answer_is_refused() -> None:
    with pytest.raises(ContextExceeded) as refused:
        chat_params(decode(chat(), ChatCompletionRequest), 100, BOUNDS)
    assert refused.value.code == "context_length_exceeded"
    assert "100 tokens" in refused.value.message


def test_defaults_are_the_models_and_the_request_wins() -> None:
    bounds = Bounds(100, 500, {"temperature": 0.0, "top_k": 20, "repetition_penalty": 1.1})
    found = chat_params(decode(chat(top_k=-1), ChatCompletionRequest), 10, bounds)
    assert (found.temperature, found.top_k, found.repetition_penalty) == (0.0, 0, 1.1)


def completion(**fields: Any) -> CompletionRequest:
    return decode(json.dumps({"model": "m"} | fields).encode(), CompletionRequest)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ("", [""]),
    ],
)
def test_prompts_come_in_four_shapes(prompt: object, expected: list[object]) -> None:
    assert prompts_of(completion(prompt=prompt), BOUNDS) == expected


@pytest.mark.parametrize("prompt", [[], [1, "a"], [[]], [[1], "a"], [True], [[1, 2.5]], [500], [-1]])
def test_other_prompts_are_refused(prompt: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        prompts_of(completion(prompt=prompt), BOUNDS)
    assert refused.value.param == "prompt"


def test_completions_default_to_sixteen_tokens_and_may_have_none_with_echo() -> None:
    assert completion_params(completion(prompt="a"), 10, BOUNDS).max_tokens == 16
    echoed = completion_params(completion(prompt="a", max_tokens=0, echo=True, logprobs=2), 100, BOUNDS)
    assert (echoed.max_tokens, echoed.score_prompt, echoed.logprobs) == (0, True, 2)
    for fields in ({"max_tokens": 0}, {"suffix": "x"}, {"best_of": 3}):
        with pytest.raises(InvalidRequest):
            completion_params(completion(prompt="a", **fields), 10, BOUNDS)


@pytest.mark.parametrize("prompt", [[], [3, 500]])
def test_tokens_without_an_embedding_and_empty_prompts_are_refused(prompt: list[int]) -> None:
    with pytest.raises(ApiError):
        check_known(prompt, BOUNDS)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": 1, bad',
        b'{"messages": 1, "x": "\xff"}',
        b'{"model": 1, "x": ' + b"[" * 5000,
        b'{"model": 1, "x": "' + b"\xff" + b'"}',
    ],
)
def test_what_is_broken_behind_a_wrong_field_is_not_json(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        decode(body, ChatCompletionRequest)
