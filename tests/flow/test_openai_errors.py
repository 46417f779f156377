"""What the `openai` client raises, and when it asks again."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.autoscaler.local.processes import eventually, soon
from tests.flow.asking import GREEDY, MODEL, user
from tests.flow.programs import Stack
from tests.flow.standin import Standin

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture
def other(scripted_api: str) -> Iterator[OpenAI]:
    """A client of the scripted engine that does not ask again."""
    with OpenAI(base_url=scripted_api, api_key="any", max_retries=0, timeout=60) as made:
        yield made


# -- errors of the gateway ----------------------------------------------------------------------------------------


def test_no_key(flow: Stack) -> None:
    # The client insists on a key; a scheme that is no bearer token is as good as none.
    headers = {"Authorization": "Basic abc"}
    with (
        OpenAI(base_url=flow.api, api_key="x", default_headers=headers, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.chat.completions.create(**GREEDY, messages=user("Hi"))
    assert raised.value.code == "missing_api_key"


def test_a_wrong_key_which_is_not_repeated_in_the_error(flow: Stack) -> None:
    secret = "sk-secret-of-somebody-else"
    with OpenAI(base_url=flow.api, api_key=secret, max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            client.chat.completions.create(**GREEDY, messages=user("Hi"))
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    assert (raised.value.status_code, raised.value.code) == (401, "invalid_api_key")
    assert secret not in str(raised.value)
    assert secret not in (flow.state / "access.log").read_text() + flow.program.err + flow.program.out


def test_an_unknown_model_names_those_that_exist(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt-9", messages=user("Hi"))
    assert (raised.value.code, raised.value.param, raised.value.type) == ("model_not_found", "model", "not_found_error")
    assert "'gpt-9'" in raised.value.message
    assert MODEL in raised.value.message.partition("does not exist")[2]
    assert raised.value.request_id is not None
    with pytest.raises(openai.NotFoundError) as of_models:
        client.models.retrieve("gpt-9")
    assert of_models.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"stream": "maybe"}, "stream"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"n": 0}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": 5}]}, "messages[0].role"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stop": [1]}, "stop[0]"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": [{"role": "user", "content": "Hi " * 2000}]}, "messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_field_is_named(client: OpenAI, fields: dict[str, Any], param: str, stream: bool) -> None:
    if stream and fields.keys() & {"stream", "stream_options"}:
        return  # wrong only when the answer is whole
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{**GREEDY, "messages": user("Hi"), "stream": stream, **fields})
    assert raised.value.param == param, raised.value
    assert raised.value.type == "invalid_request_error"
    assert raised.value.message


def test_a_prompt_that_is_too_long_has_openais_code(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**GREEDY, messages=user("Hi " * 2000))
    assert raised.value.code == "context_length_exceeded"
    assert "1024" in raised.value.message


def test_paths_nobody_serves(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.files.list()
    assert raised.value.code == "path_not_found"
    with pytest.raises(openai.NotFoundError):  # the gateway relays it, and this engine has no embeddings
        client.embeddings.create(model=MODEL, input="Hi")


def test_a_body_over_the_limit(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(**GREEDY, messages=user("x" * (33 * 2**20)))
    assert (raised.value.status_code, raised.value.code) == (413, "request_too_large")


# -- errors of an engine, and asking again ------------------------------------------------------------------------


def test_an_engines_own_error_comes_through(other: OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        other.chat.completions.create(model="refusing", messages=user("Hi"))
    error = raised.value
    assert (error.type, error.param, error.code) == ("odd_error", "thing", "odd")
    assert "no such thing here" in error.message
    assert raised.value.request_id is not None


def test_an_overloaded_engine_is_a_rate_limit(other: OpenAI, scripted: Standin) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        other.chat.completions.create(model="busy", messages=user("Hi"))
    assert raised.value.response.headers["retry-after"] == "1"
    assert "come back later" in raised.value.message


def test_the_client_asks_again_after_the_time_it_was_told(scripted_api: str, scripted: Standin) -> None:
    with OpenAI(base_url=scripted_api, api_key="any", max_retries=2) as patient:
        whole = patient.chat.completions.create(model="busy-once", messages=user("Hi"))
    assert whole.choices[0].message.content == "One two"
    first, second = scripted.of("busy-once")
    assert first.body == second.body
    assert second.at_s - first.at_s >= 0.95  # Retry-After: 1; by itself the client would wait half a second
    # As the client tells it; the gateway passes the header on.
    assert [seen.headers["x-stainless-retry-count"] for seen in (first, second)] == ["0", "1"]


def broken_stream(client: OpenAI, model: str) -> tuple[str, openai.APIError]:
    """The text that came, and the error after it."""
    text = ""
    try:
        for chunk in client.chat.completions.create(model=model, messages=user("Hi"), stream=True):
            text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        return text, error
    raise AssertionError("the stream ended as if nothing were wrong")


def test_an_error_inside_a_stream_is_raised_after_the_text_before_it(other: OpenAI) -> None:
    text, error = broken_stream(other, "breaks")
    assert text == "One two"
    assert "the weights caught fire" in error.message


def test_a_stream_that_is_cut_off_is_an_error_and_no_short_answer(other: OpenAI) -> None:
    text, error = broken_stream(other, "cut")
    assert text == "One two"
    assert error.code == "engine_bad_response"


# -- timeouts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_gives_up_makes_the_engine_give_up(other: OpenAI, scripted: Standin, stream: bool) -> None:
    waiting, hung_up = scripted.waiting, scripted.hung_up
    with pytest.raises(openai.APITimeoutError):
        other.chat.completions.create(model="slow", messages=user("Hi"), stream=stream, timeout=0.5)
    assert scripted.waiting == waiting + 1
    soon(lambda: scripted.hung_up == hung_up + 1)


async def test_the_same_asynchronously_and_when_cancelled(scripted_api: str, scripted: Standin) -> None:
    waiting, hung_up = scripted.waiting, scripted.hung_up
    async with AsyncOpenAI(base_url=scripted_api, api_key="any", max_retries=0) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="slow", messages=user("Hi"), timeout=0.5)
        await eventually(lambda: scripted.hung_up == hung_up + 1)
        asking = asyncio.create_task(client.chat.completions.create(model="slow", messages=user("Hi")))
        await eventually(lambda: scripted.waiting == waiting + 2)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await eventually(lambda: scripted.hung_up == hung_up + 2)


def test_nobody_listens() -> None:
    with (
        OpenAI(base_url="http://127.0.0.1:9/v1", api_key="any", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.models.list()
