"""The OpenAI routes over a real tiny model, in this process."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from engines.huggingface.app import build_app
from engines.huggingface.front import Front
from engines.huggingface.load import load
from engines.huggingface.loaded import Loaded
from engines.huggingface.options import Options
from engines.huggingface.params import SamplingParams

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HELLO = [{"role": "user", "content": "Tokens per second"}]


@pytest.fixture
async def front(loaded: Loaded) -> AsyncIterator[Front]:
    made = Front(lambda: loaded, max_batch=6, max_queue=20, prefill_tokens=64)
    made.start()
    await made.loaded()
    yield made
    assert made.stop(30)


@pytest.fixture
async def client(front: Front) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_app(front, "tiny"))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=60) as made:
        yield made


async def post(client: httpx.AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post(path, json={"model": "tiny"} | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def chat(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    return await post(client, CHAT, **({"messages": HELLO, "max_tokens": 12, "temperature": 0} | fields))


async def complete(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    return await post(client, TEXT, **({"prompt": "Tokens per", "max_tokens": 12, "temperature": 0} | fields))


async def events(client: httpx.AsyncClient, path: str, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "tiny", "stream": True, "temperature": 0, "max_tokens": 12} | fields
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    parts = answer.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    assert all(part.startswith("data: ") for part in parts[:-1])
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def text_of(found: dict[str, Any], choice: int = 0) -> str:
    picked = found["choices"][choice]
    text: str = picked["message"]["content"] if "message" in picked else picked["text"]
    return text


async def test_a_chat_is_answered_and_counted(client: httpx.AsyncClient, loaded: Loaded) -> None:
    found = await chat(client, ignore_eos=True)
    assert found["object"] == "chat.completion"
    assert found["model"] == "tiny"
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["choices"][0]["message"]["role"] == "assistant"
    prompt = loaded.tokenizer.apply_chat_template(HELLO, add_generation_prompt=True, return_dict=False)
    assert found["usage"] == {
        "prompt_tokens": len(prompt),
        "completion_tokens": 12,
        "total_tokens": len(prompt) + 12,
    }


async def test_a_stream_says_the_same_as_the_whole_answer(client: httpx.AsyncClient) -> None:
    whole = await chat(client)
    found = await events(client, CHAT, messages=HELLO, stream_options={"include_usage": True})
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in found[:-1]) == text_of(whole)
    assert [e["choices"][0]["finish_reason"] for e in found[:-1] if e["choices"][0]["finish_reason"]] == ["length"]
    assert (found[-1]["choices"], found[-1]["usage"]) == ([], whole["usage"])
    assert all(e["usage"] is None for e in found[:-1])
    assert len({e["id"] for e in found}) == 1


async def test_usage_is_not_streamed_unasked(client: httpx.AsyncClient) -> None:
    assert all("usage" not in e and e["choices"] for e in await events(client, CHAT, messages=HELLO))


async def test_content_may_come_in_text_parts(client: httpx.AsyncClient) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Tokens "}, {"type": "text", "text": "per second"}]}]
    assert text_of(await chat(client, messages=parts)) == text_of(await chat(client))


async def test_stop_strings_end_the_text_and_never_show(client: httpx.AsyncClient) -> None:
    text = text_of(await chat(client, max_tokens=40, ignore_eos=True))
    # A stop string that lies across tokens, taken from the middle of what the model says.
    stop = text[len(text) // 2 - 2 : len(text) // 2 + 3]
    expected = text[: text.index(stop)]
    found = await chat(client, max_tokens=40, ignore_eos=True, stop=[stop])
    assert (text_of(found), found["choices"][0]["finish_reason"]) == (expected, "stop")
    assert found["usage"]["completion_tokens"] < 40
    streamed = await events(client, CHAT, messages=HELLO, max_tokens=40, ignore_eos=True, stop=stop)
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in streamed) == expected
    shown = await chat(client, max_tokens=40, ignore_eos=True, stop=[stop], include_stop_str_in_output=True)
    assert text_of(shown) == expected + stop


async def test_stop_tokens_end_the_text_and_min_tokens_delays_them(client: httpx.AsyncClient, loaded: Loaded) -> None:
    everything = list(range(loaded.vocabulary_tokens))
    delayed = await chat(client, stop_token_ids=everything[:200], min_tokens=5, ignore_eos=True)
    assert delayed["usage"]["completion_tokens"] >= 5
    at_once = await chat(client, stop_token_ids=everything)
    assert (at_once["usage"]["completion_tokens"], text_of(at_once)) == (1, "")
    assert at_once["choices"][0]["finish_reason"] == "stop"


async def test_the_end_token_ends_the_text_unless_ignored(client: httpx.AsyncClient) -> None:
    end = {"0": 100}
    found = await chat(client, logit_bias=end)
    assert (found["choices"][0]["finish_reason"], text_of(found)) == ("stop", "")
    assert found["usage"]["completion_tokens"] == 1
    ignored = await chat(client, logit_bias=end, ignore_eos=True)
    assert (ignored["choices"][0]["finish_reason"], ignored["usage"]["completion_tokens"]) == ("length", 12)
    delayed = await chat(client, logit_bias=end, min_tokens=4)
    assert (delayed["choices"][0]["finish_reason"], delayed["usage"]["completion_tokens"]) == ("stop", 5)
    shown = await chat(client, logit_bias=end, ignore_eos=True, skip_special_tokens=False)
    assert text_of(shown) == "<|end|>" * 12


async def test_a_seed_gives_the_same_text_whatever_else_runs(client: httpx.AsyncClient) -> None:
    async def drawn(**fields: Any) -> str:
        return text_of(await chat(client, temperature=1, seed=7, **fields))

    alone = await drawn()
    beside = await asyncio.gather(
        drawn(), chat(client, temperature=2, n=3), drawn(), complete(client, temperature=1, top_p=0.5), drawn()
    )
    assert {beside[0], beside[2], beside[4]} == {alone}
    assert text_of(await chat(client, temperature=1, seed=8)) != alone
    first, second = await drawn(top_p=0.9), await drawn(top_p=0.9)
    assert first == second


async def test_n_choices_differ_and_repeat_with_a_seed(client: httpx.AsyncClient) -> None:
    found = await chat(client, n=3, temperature=1, seed=1)
    texts = [text_of(found, n) for n in range(3)]
    assert [c["index"] for c in found["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts == [text_of(await chat(client, n=3, temperature=1, seed=1), n) for n in range(3)]
    assert found["usage"]["completion_tokens"] == 36
    streamed = await events(client, CHAT, messages=HELLO, n=3, temperature=1, seed=1)
    for number, text in enumerate(texts):
        own = [e["choices"][0]["delta"].get("content", "") for e in streamed if e["choices"][0]["index"] == number]
        assert "".join(own) == text


async def test_several_prompts_with_several_choices_each(client: httpx.AsyncClient, loaded: Loaded) -> None:
    ids = loaded.tokenizer("Tokens per")["input_ids"]
    found = await complete(client, prompt=["Tokens per", "for i in"], n=2, seed=3, temperature=1)
    assert [c["index"] for c in found["choices"]] == [0, 1, 2, 3]
    again = await complete(client, prompt=[ids], n=2, seed=3, temperature=1)
    assert [text_of(again, n) for n in range(2)] == [text_of(found, n) for n in range(2)]
    assert (await complete(client, prompt=ids))["choices"][0] == (await complete(client))["choices"][0]


async def test_echo_repeats_the_prompt_in_both_forms(client: httpx.AsyncClient) -> None:
    plain, echoed = await complete(client), await complete(client, echo=True)
    assert text_of(echoed) == "Tokens per" + text_of(plain)
    streamed = await events(client, TEXT, prompt="Tokens per", echo=True)
    assert "".join(e["choices"][0]["text"] for e in streamed) == text_of(echoed)
    only = await complete(client, echo=True, max_tokens=0)
    assert (text_of(only), only["usage"]["completion_tokens"]) == ("Tokens per", 0)


async def test_prompt_scores_equal_the_models_log_softmax(
    client: httpx.AsyncClient, loaded: Loaded, model_dir: Path
) -> None:
    prompt = "Tokens per second, time to first token. " * 8
    found = await complete(client, prompt=prompt, echo=True, logprobs=3, max_tokens=4, ignore_eos=True)
    logprobs = found["choices"][0]["logprobs"]
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    ids = loaded.tokenizer(prompt)["input_ids"]
    assert len(ids) > 64  # more than one step's share of prompt tokens
    continued = await complete(client, prompt=ids, max_tokens=4, ignore_eos=True, logprobs=0)
    with torch.inference_mode():
        reference = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    for place, token in enumerate(ids[1:]):
        assert math.isclose(logprobs["token_logprobs"][place + 1], float(reference[place, token]), abs_tol=1e-3)
        best = sorted(logprobs["top_logprobs"][place + 1].values(), reverse=True)[:3]
        assert best == pytest.approx(reference[place].topk(3).values.tolist(), abs=1e-3)
    assert len(logprobs["tokens"]) == len(ids) + 4
    assert logprobs["text_offset"][: len(ids)] == [len(loaded.tokenizer.decode(ids[:n])) for n in range(len(ids))]
    assert logprobs["tokens"][len(ids) :] == continued["choices"][0]["logprobs"]["tokens"]


async def test_chat_scores_have_tokens_bytes_and_alternatives(client: httpx.AsyncClient) -> None:
    found = await chat(client, logprobs=True, top_logprobs=2, ignore_eos=True)
    content = found["choices"][0]["logprobs"]["content"]
    assert len(content) == 12
    # Greedy: the chosen token is the likeliest.
    assert all(len(t["top_logprobs"]) == 2 and t["top_logprobs"][0]["token"] == t["token"] for t in content)
    told = bytes(b for t in content for b in t["bytes"]).decode(errors="replace")
    assert told == text_of(found)
    streamed = await events(client, CHAT, messages=HELLO, logprobs=True, top_logprobs=2, ignore_eos=True)
    scored = [t for e in streamed if e["choices"][0]["logprobs"] for t in e["choices"][0]["logprobs"]["content"]]
    assert scored == content


async def test_a_partial_answer_of_the_demo_model_is_continued_exactly() -> None:
    demo = load(Options("demo", model_id="penstock/demo", max_batch_size=16, threads=1))
    front = Front(lambda: demo, max_batch=16, max_queue=200, prefill_tokens=512)
    front.start()
    await front.loaded()
    transport = httpx.ASGITransport(build_app(front, "tiny"))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=60) as client:
        question = [{"role": "user", "content": "What is Penstock?"}]
        whole = text_of(await chat(client, messages=question, max_tokens=80))
        cuts = [n for n, character in enumerate(whole) if character == " "]
        assert len(cuts) > 5
        rests = await asyncio.gather(
            *(
                chat(
                    client,
                    messages=[*question, {"role": "assistant", "content": whole[:cut]}],
                    continue_final_message=True,
                    add_generation_prompt=False,
                    max_tokens=80,
                )
                for cut in cuts
            )
        )
    assert front.stop(30)
    assert [(whole[:cut] + text_of(rest)).startswith(whole) for cut, rest in zip(cuts, rests, strict=True)] == [
        True
    ] * len(cuts)


async def test_what_is_continued_is_the_prompt_word_for_word(client: httpx.AsyncClient, loaded: Loaded) -> None:
    def body(text: str) -> list[dict[str, str]]:
        return [*HELLO, {"role": "assistant", "content": text}]

    prompt = loaded.tokenizer.apply_chat_template(HELLO, add_generation_prompt=True, tokenize=False)
    for text in ("per ", " second\n", "\n", "früh"):
        found = await chat(client, messages=body(text), continue_final_message=True)
        assert text_of(found) == text_of(await complete(client, prompt=prompt + text))
    assert (await chat(client, messages=body("x"), continue_final_message=True))["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "other"}, 404, "model_not_found", "model"),
        ({"temperature": 9}, 400, None, "temperature"),
        ({"messages": [{"role": "user", "content": "many " * 300}]}, 400, "context_length_exceeded", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, None, "messages[0].content[0]"),
        ({"continue_final_message": True}, 400, None, "messages"),
        ({"continue_final_message": True, "add_generation_prompt": True}, 400, None, "continue_final_message"),
        ({"n": 27}, 429, "overloaded", None),
    ],
)
async def test_refusals_are_shaped_as_openais(
    fields: dict[str, Any], status: int, code: str | None, param: str | None, client: httpx.AsyncClient
) -> None:
    answer = await client.post(CHAT, json={"model": "tiny", "messages": HELLO} | fields)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"]
    assert ("retry-after" in answer.headers) == (status == 429)


async def test_bad_json_other_paths_and_other_methods_are_shaped_as_openais(client: httpx.AsyncClient) -> None:
    bad = await client.post(CHAT, content=b"{")
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_json")
    assert (await client.get("/v1/nothing")).json()["error"]["code"] == "path_not_found"
    assert (await client.get(CHAT)).json()["error"]["code"] == "method_not_allowed"


async def test_a_body_of_any_size_gets_a_quick_answer(client: httpx.AsyncClient) -> None:
    long = await client.post(CHAT, json={"model": "tiny", "messages": [{"role": "user", "content": "x" * 2**23}]})
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "characters" in long.json()["error"]["message"]
    large = await client.post(CHAT, content=b" " * (2**24 + 1))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")


async def test_a_step_that_fails_ends_its_sequences_and_no_others(
    client: httpx.AsyncClient, front: Front, loaded: Loaded
) -> None:
    class Broken:
        """A prompt that cannot be put into a tensor."""

    good = await chat(client)
    body: Any = [[Broken()]]
    params = SamplingParams(max_tokens=3, temperature=0)
    with front.submit(body, [params], 1) as ticket:
        ((_, delta),) = await ticket.news()
    assert (delta.finish_reason, delta.error is not None) == ("error", True)
    assert text_of(await chat(client)) == text_of(good)
    assert (await client.get("/health")).status_code == 200


async def test_an_engine_whose_steps_keep_failing_says_that_it_is_broken(
    client: httpx.AsyncClient, front: Front
) -> None:
    body: Any = [["no token"]]
    for _ in range(3):
        with front.submit(body, [SamplingParams(max_tokens=3)], 1) as ticket:
            await ticket.news()
    for path in ("/health", "/health/ready"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (503, {"status": "broken"})
    refused = await client.post(CHAT, json={"model": "tiny", "messages": HELLO})
    assert (refused.status_code, refused.json()["error"]["code"]) == (500, "internal_error")


async def test_models_under_both_prefixes(client: httpx.AsyncClient) -> None:
    for prefix in ("/v1", "/openai/v1"):
        listed = (await client.get(f"{prefix}/models")).json()
        assert [m["id"] for m in listed["data"]] == ["tiny"]
        assert (await client.get(f"{prefix}/models/tiny")).json()["max_model_len"] == 256
        assert (await client.get(f"{prefix}/models/a/b")).status_code == 404
        assert (await client.post(f"{prefix}/completions", json={"model": "tiny", "prompt": "a"})).status_code == 200


async def test_the_documentation_has_the_message_schemas(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert "repetition_penalty" in schemas["ChatCompletionRequest"]["properties"]
    assert document["paths"]["/v1/completions"]["post"]["requestBody"]
    refs = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert refs <= set(schemas)
    assert (await client.get("/docs")).status_code == 200


async def test_metrics_count_what_happened(client: httpx.AsyncClient) -> None:
    found = await chat(client, n=2, ignore_eos=True)
    metrics = (await client.get("/metrics")).text
    assert f"penstock_engine_prompt_tokens_total {found['usage']['prompt_tokens']}.0" in metrics
    assert "penstock_engine_generation_tokens_total 24.0" in metrics
    assert 'penstock_engine_requests_finished_total{reason="length"} 2.0' in metrics
    assert "penstock_engine_time_to_first_token_seconds_count 2.0" in metrics
    assert "penstock_engine_inter_token_latency_seconds_count 22.0" in metrics
    for name in ("requests_running", "requests_waiting", "kv_cache_usage"):
        assert f"penstock_engine_{name} 0.0" in metrics
    assert "vllm" not in metrics


async def test_not_ready_while_loading_and_draining(loaded: Loaded) -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow() -> Loaded:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        return loaded

    front = Front(slow, max_batch=6, max_queue=2, prefill_tokens=64)
    transport = httpx.ASGITransport(build_app(front, "tiny"))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        front.start()
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/v1/models")).json()["data"] == []
        early = await client.post(CHAT, json={"model": "tiny", "messages": HELLO})
        assert (early.status_code, early.headers["retry-after"]) == (503, "2")
        gate.set()
        await front.loaded()
        assert (await client.get("/health/ready")).status_code == 200
        front.drain()
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health")).status_code == 200
        late = await client.post(CHAT, json={"model": "tiny", "messages": HELLO})
        assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
    assert front.stop(30)
