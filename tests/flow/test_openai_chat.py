"""The `openai` client, synchronous: models, chat completions whole and streamed, raw responses."""

import re

import pytest
from openai import OpenAI

from engines.demo.questions import Pages
from tests.flow.asking import GREEDY, MODEL, QUESTION, WITH_USAGE, assistant, user
from tests.flow.programs import Stack

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture
def answer(pages: Pages) -> str:
    """What the demo model answers to the question."""
    return pages.answer_to(QUESTION)


def test_models_are_listed_and_found(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    found = client.models.retrieve(MODEL)
    assert (found.id, found.object, found.owned_by) == (MODEL, "model", "penstock")
    assert found.created > 1_700_000_000


def test_a_whole_answer(client: OpenAI, answer: str) -> None:
    whole = client.chat.completions.create(**GREEDY, messages=user(QUESTION))
    (choice,) = whole.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (answer, "assistant", "stop")
    assert whole.object == "chat.completion"
    assert whole.model == MODEL
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.completion_tokens > 10


def test_a_stream_has_the_same_text_and_no_usage_that_was_not_asked_for(client: OpenAI, answer: str) -> None:
    chunks = list(client.chat.completions.create(**GREEDY, messages=user(QUESTION), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert not any(chunk.usage for chunk in chunks)
    assert len(chunks) > 10  # it really comes in pieces


def test_a_stream_with_usage_ends_with_one_chunk_that_has_it(client: OpenAI) -> None:
    whole = client.chat.completions.create(**GREEDY, messages=user(QUESTION))
    chunks = list(
        client.chat.completions.create(**GREEDY, messages=user(QUESTION), stream=True, stream_options=WITH_USAGE)
    )
    *before, last = chunks
    assert not any(chunk.usage for chunk in before)
    assert last.choices == []
    assert last.usage == whole.usage


def test_several_answers_to_one_question(client: OpenAI, answer: str) -> None:
    whole = client.chat.completions.create(**GREEDY, messages=user(QUESTION), n=3)
    assert [(choice.index, choice.message.content) for choice in whole.choices] == [(n, answer) for n in range(3)]
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(**GREEDY, messages=user(QUESTION), n=3, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [answer] * 3


def test_stop_and_max_tokens_end_an_answer(client: OpenAI, answer: str) -> None:
    stopped = client.chat.completions.create(**GREEDY, messages=user(QUESTION), stop=["gateway"])
    assert stopped.choices[0].message.content == answer[: answer.index("gateway")]
    assert stopped.choices[0].finish_reason == "stop"
    cut = client.chat.completions.create(**GREEDY, messages=user(QUESTION), max_tokens=4)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 4
    assert answer.startswith(cut.choices[0].message.content or "-")
    same = client.chat.completions.create(**GREEDY, messages=user(QUESTION), max_completion_tokens=4)
    assert same.choices[0].message.content == cut.choices[0].message.content


def test_a_seed_repeats_a_draw_and_temperature_varies_it(client: OpenAI) -> None:
    def draw(seed: int) -> str | None:
        drawn = client.chat.completions.create(
            model=MODEL, messages=user("Hi"), seed=seed, temperature=2, max_tokens=30, extra_body={"ignore_eos": True}
        )
        return drawn.choices[0].message.content

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(2, 6)}) > 1


def test_logprobs_come_with_their_alternatives(client: OpenAI, answer: str) -> None:
    whole = client.chat.completions.create(
        **GREEDY, messages=user(QUESTION), logprobs=True, top_logprobs=3, max_tokens=5
    )
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 5
    for token in logprobs.content:
        assert token.logprob == token.top_logprobs[0].logprob <= 0  # greedy: the likeliest was taken
        assert len(token.top_logprobs) == 3
    assert answer.startswith("".join(token.token for token in logprobs.content))
    streamed = client.chat.completions.create(
        **GREEDY, messages=user(QUESTION), logprobs=True, max_tokens=5, stream=True
    )
    parts = [chunk.choices[0].logprobs for chunk in streamed]
    tokens = [token.token for part in parts if part is not None for token in part.content or ()]
    assert tokens == [token.token for token in logprobs.content]


def test_fields_that_nobody_knows_pass(client: OpenAI, answer: str) -> None:
    extra = {"penstock_has_never_heard_of_this": {"a": [1, None]}, "min_p": 0.1}
    whole = client.chat.completions.create(**GREEDY, messages=user(QUESTION), extra_body=extra)
    assert whole.choices[0].message.content == answer


def test_an_answer_is_continued(client: OpenAI, answer: str) -> None:
    begun, rest = answer[:40], answer[40:]
    messages = [*user(QUESTION), *assistant(begun)]
    extra = {"continue_final_message": True, "add_generation_prompt": False}
    whole = client.chat.completions.create(**GREEDY, messages=messages, extra_body=extra)
    assert whole.choices[0].message.content == rest


def test_a_raw_response_has_a_request_id(client: OpenAI, answer: str) -> None:
    raw = client.chat.completions.with_raw_response.create(**GREEDY, messages=user(QUESTION))
    assert raw.status_code == 200
    assert re.fullmatch(r"req-[0-9a-f]{12}-\d+", raw.headers["x-request-id"])
    assert raw.headers["content-type"] == "application/json"
    whole = raw.parse()
    assert whole.choices[0].message.content == answer
    assert whole._request_id == raw.headers["x-request-id"]


def test_a_request_id_of_the_callers_own_is_kept(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        **GREEDY, messages=user(QUESTION), extra_headers={"X-Request-Id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"


def test_a_streaming_response_is_read_line_by_line(client: OpenAI) -> None:
    asked = client.chat.completions.with_streaming_response
    with asked.create(**GREEDY, messages=user(QUESTION), stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert "x-request-id" in response.headers
        lines = list(response.iter_lines())
    assert [line for line in lines if line and not line.startswith("data: ")] == []
    assert lines.count("data: [DONE]") == 1
    assert [line for line in lines if line][-1] == "data: [DONE]"


def test_kserves_prefix_is_served_too(flow: Stack, answer: str) -> None:
    with OpenAI(base_url=f"{flow.url}/openai/v1", api_key=flow.keys["flow"]) as other:
        whole = other.chat.completions.create(**GREEDY, messages=user(QUESTION))
    assert whole.choices[0].message.content == answer


def test_the_stream_helper_of_the_client_adds_up_the_answer(client: OpenAI, answer: str) -> None:
    with client.chat.completions.stream(**GREEDY, messages=user(QUESTION)) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        whole = stream.get_final_completion()
    assert "".join(deltas) == answer == whole.choices[0].message.content
