"""A real engine process: hang-ups, a full queue, and the ways to end."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from tests.engines.huggingface.process import EngineProcess, engine, free_port

pytestmark = pytest.mark.engine

MESSAGES = [{"role": "user", "content": "Tokens per second"}]
LONG = {"model": "tiny", "messages": MESSAGES, "max_tokens": 50_000, "ignore_eos": True, "temperature": 0}


@pytest.fixture(scope="module")
def model_dir(folder_of: Callable[[str], Path]) -> Path:
    """A tiny model with so long a context that nothing ends by itself before a test is done with it."""
    return folder_of("llama-long")


@pytest.fixture(scope="module")
def server(model_dir: Path) -> Iterator[EngineProcess]:
    """An engine with two rows, so that a third sequence waits, and room for two to wait."""
    with engine(model_dir, "--max_batch_size", "2", "--max_queue", "2") as started:
        started.until_ready()
        yield started


@pytest.fixture
def slow(server: EngineProcess) -> Iterator[EngineProcess]:
    """The engine before and after a test: nothing runs."""
    server.until("requests_running", 0)
    yield server
    server.until("requests_running", 0)
    server.until("requests_waiting", 0)


async def lines(client: httpx.AsyncClient, url: str, **fields: object) -> AsyncIterator[str]:
    """The events of a stream, one by one."""
    async with client.stream("POST", f"{url}/v1/chat/completions", json=LONG | {"stream": True} | fields) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line:
                yield line


async def test_a_stream_arrives_token_by_token(slow: EngineProcess) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        stream = lines(client, slow.url, max_tokens=300)
        first = await anext(stream)
        # It runs while its first event has been read already: nothing waited for the end.
        assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"
        rest = [line async for line in stream]
        assert rest[-1] == "data: [DONE]"
        assert len(rest) > 100


async def test_hanging_up_frees_a_stream_and_those_who_wait(slow: EngineProcess) -> None:
    before = slow.metric("requests_finished_total")
    async with httpx.AsyncClient(timeout=60) as client:
        running = [lines(client, slow.url) for _ in range(2)]
        for stream in running:
            await anext(stream)
        waiting = asyncio.create_task(anext(lines(client, slow.url)))
        await slow.reaches("requests_waiting", 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for stream in running:
            await stream.aclose()
    await slow.reaches("requests_waiting", 0)
    await slow.reaches("requests_running", 0)
    await slow.reaches("requests_finished_total", before + 3)
    assert slow.metric("kv_cache_usage") == 0


async def test_hanging_up_frees_an_answer_that_is_not_streamed(slow: EngineProcess) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        body = LONG | {"n": 2}
        answer = asyncio.create_task(client.post(f"{slow.url}/v1/chat/completions", json=body))
        await slow.reaches("requests_running", 2)
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
    await slow.reaches("requests_running", 0)


async def test_hanging_up_in_the_middle_of_a_long_prompt(model_dir: Path) -> None:
    with engine(model_dir, "--max_prefill_tokens", "1") as one:
        one.until_ready()
        async with httpx.AsyncClient(timeout=60) as client:
            body = LONG | {"messages": [{"role": "user", "content": "Tokens " * 9000}]}
            answer = asyncio.create_task(client.post(f"{one.url}/v1/chat/completions", json=body))
            await one.reaches("requests_running", 1)
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
        await one.reaches("requests_running", 0)


async def test_a_full_queue_refuses_with_retry_after(slow: EngineProcess) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        streams = [lines(client, slow.url) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        short = LONG | {"max_tokens": 9}
        queued = [asyncio.create_task(client.post(f"{slow.url}/v1/chat/completions", json=short)) for _ in range(2)]
        await slow.reaches("requests_waiting", 2)
        refused = await client.post(f"{slow.url}/v1/chat/completions", json=LONG)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["code"] == "overloaded"
        for stream in streams:
            await stream.aclose()
        # Those who waited were served all the same.
        for answer in await asyncio.gather(*queued):
            assert answer.json()["usage"]["completion_tokens"] == 9


async def test_the_openai_client_works(slow: EngineProcess) -> None:
    async with openai.AsyncOpenAI(base_url=f"{slow.url}/v1", api_key="none", max_retries=0) as client:
        kwargs = {"model": "tiny", "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
        whole = await client.chat.completions.create(**kwargs, logprobs=True, top_logprobs=2)  # type: ignore[call-overload]
        stream = await client.chat.completions.create(**kwargs, stream=True)  # type: ignore[call-overload]
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == whole.choices[0].message.content
        assert len(whole.choices[0].logprobs.content) == 8
        assert [model.id async for model in client.models.list()] == ["tiny"]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(**(kwargs | {"temperature": 9}))  # type: ignore[call-overload]
        assert refused.value.param == "temperature"
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(**(kwargs | {"model": "other"}))  # type: ignore[call-overload]
        completed = await client.completions.create(model="tiny", prompt=["a", "b"], max_tokens=3, logprobs=1)
        assert [len(c.logprobs.tokens) for c in completed.choices if c.logprobs and c.logprobs.tokens] == [3, 3]


async def test_a_drain_finishes_what_runs_and_takes_nothing_new(model_dir: Path) -> None:
    with engine(model_dir) as one:
        one.until_ready()
        async with httpx.AsyncClient(timeout=60) as client:
            stream = lines(client, one.url, max_tokens=3000)
            await anext(stream)
            one.signal()
            while (await client.get(f"{one.url}/health/ready")).status_code == 200:
                pass
            refused = await client.post(f"{one.url}/v1/chat/completions", json=LONG)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
            rest = [line async for line in stream]
        assert rest[-1] == "data: [DONE]"
        assert '"finish_reason":"length"' in rest[-2]
        assert one.ended() == 0


async def test_a_drain_that_takes_too_long_cuts_streams_with_an_error(model_dir: Path) -> None:
    with engine(model_dir, "--drain_timeout", "0", "--max_prefill_tokens", "1") as one:
        one.until_ready()
        async with httpx.AsyncClient(timeout=60) as client:
            body = LONG | {"messages": [{"role": "user", "content": "Tokens " * 9000}]}
            answer = asyncio.create_task(client.post(f"{one.url}/v1/chat/completions", json=body))
            await one.reaches("requests_running", 1)
            one.signal()
            found = await answer
        assert (found.status_code, found.json()["error"]["type"]) == (500, "api_error")
        assert one.ended() == 0


def test_a_second_signal_ends_at_once(model_dir: Path) -> None:
    with engine(model_dir, "--max_prefill_tokens", "1") as one:
        one.until_ready()
        body = LONG | {"messages": [{"role": "user", "content": "Tokens " * 9000}], "stream": True}
        with httpx.stream("POST", f"{one.url}/v1/chat/completions", json=body, timeout=60):
            one.until("requests_running", 1)
            one.signal()
            one.signal(signal.SIGINT)
            assert one.ended() != 0


def test_a_signal_while_loading_ends_at_once(model_dir: Path) -> None:
    with engine(model_dir) as one:
        while True:
            try:
                assert httpx.get(f"{one.url}/health").status_code == 200
                break
            except httpx.TransportError:
                assert one.process.poll() is None
        one.signal()
        assert one.ended() == 0


def test_a_model_that_cannot_be_loaded_is_one_sentence_and_code_1(tmp_path: Path) -> None:
    with engine(tmp_path) as one:
        output, _ = one.process.communicate(timeout=90)
    assert one.process.returncode == 1
    assert "has no config.json, so it is not a model folder" in output
    assert "Traceback" not in output


def test_a_port_in_use_is_code_1(server: EngineProcess, model_dir: Path) -> None:
    with engine(model_dir, port=int(server.url.rsplit(":", 1)[1])) as second:
        output, _ = second.process.communicate(timeout=90)
    assert second.process.returncode == 1
    assert "address already in use" in output


def test_no_process_or_thread_is_left(model_dir: Path) -> None:
    with engine(model_dir, port=free_port()) as one:
        one.until_ready()
        children = psutil.Process(one.process.pid).children(recursive=True)
        one.signal()
        assert one.ended() == 0
    assert children == []
