"""The `openai` client on the older completions API."""

from typing import Any

import pytest
from openai import OpenAI

from engines.demo.questions import Pages
from tests.flow.asking import GREEDY, WITH_USAGE

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

PROMPTS = ["Q: What is TTFT?\nA:", "Q: What is Penstock?\nA:"]


def test_a_text_is_continued(client: OpenAI, pages: Pages) -> None:
    whole = client.completions.create(**GREEDY, prompt=PROMPTS[0], max_tokens=100)
    assert whole.choices[0].text.strip() == pages.answer_to("What is TTFT?")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.object == "text_completion"


def test_a_stream_has_the_same_text(client: OpenAI) -> None:
    whole = client.completions.create(**GREEDY, prompt=PROMPTS[0], max_tokens=30)
    asked: dict[str, Any] = {**GREEDY, "prompt": PROMPTS[0], "max_tokens": 30, "stream_options": WITH_USAGE}
    *chunks, last = client.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert (last.choices, last.usage) == ([], whole.usage)


def test_several_prompts_get_an_answer_each(client: OpenAI) -> None:
    alone = [client.completions.create(**GREEDY, prompt=p, max_tokens=20).choices[0].text for p in PROMPTS]
    together = client.completions.create(**GREEDY, prompt=PROMPTS, max_tokens=20)
    assert [(choice.index, choice.text) for choice in together.choices] == list(enumerate(alone))
    twice = client.completions.create(**GREEDY, prompt=PROMPTS, n=2, max_tokens=20)
    assert [choice.text for choice in twice.choices] == [alone[0], alone[0], alone[1], alone[1]]


def test_the_prompt_comes_back_with_echo_and_is_scored(client: OpenAI) -> None:
    plain = client.completions.create(**GREEDY, prompt=PROMPTS[0], max_tokens=3)
    whole = client.completions.create(**GREEDY, prompt=PROMPTS[0], max_tokens=3, echo=True, logprobs=2)
    (choice,) = whole.choices
    assert choice.text == PROMPTS[0] + plain.choices[0].text
    assert choice.logprobs is not None
    tokens, scores = choice.logprobs.tokens or [], choice.logprobs.token_logprobs or []
    assert "".join(tokens) == choice.text
    assert scores[0] is None  # nothing comes before the first token
    assert len(scores) == len(tokens) == len(choice.logprobs.text_offset or [])
    assert all(score <= 0 for score in scores[1:])


def test_token_ids_are_a_prompt_too(client: OpenAI) -> None:
    text = client.completions.create(**GREEDY, prompt=[5, 6, 7], max_tokens=3, echo=True)
    assert text.usage is not None
    assert (text.usage.prompt_tokens, text.usage.completion_tokens) == (3, 3)
