"""Chat traffic for locust: people who read what they are told, and programs that wait for whole answers.

    locust -f loadtests/locustfile.py --headless --users 20 --spawn-rate 5 --run-time 1m --host http://127.0.0.1:8080

Without `--headless` the page on http://127.0.0.1:8089 starts and plots it. Beside locust's own rows there are, for
streamed answers, `TTFT` (request sent to first content, in ms) and `TPOT` (mean ms per event with content after it).

Prompts and answers are as long as those of a published trace of conversations (see chat_traffic.py).

Settings, from the environment: PENSTOCK_MODEL (default `demo`), PENSTOCK_API_KEY (none), PENSTOCK_PATH
(/openai/v1/chat/completions), and for engines with a small context PENSTOCK_MAX_PROMPT_TOKENS (14000) and
PENSTOCK_MAX_TOKENS (1000).
"""

import os
import random
import time
from functools import partial

from locust import FastHttpUser, between, constant, task
from locust.contrib.fasthttp import ResponseContextManager

from loadtests.chat_traffic import ANSWER_TOKENS, PROMPT_TOKENS, BrokenStreamError, contents, prompt

MODEL = os.environ.get("PENSTOCK_MODEL", "demo")
API_KEY = os.environ.get("PENSTOCK_API_KEY", "")
PATH = os.environ.get("PENSTOCK_PATH", "/openai/v1/chat/completions")
MAX_PROMPT_TOKENS = int(os.environ.get("PENSTOCK_MAX_PROMPT_TOKENS", str(PROMPT_TOKENS.most)))
MAX_TOKENS = int(os.environ.get("PENSTOCK_MAX_TOKENS", str(ANSWER_TOKENS.most)))


class ChatUser(FastHttpUser):
    """What both kinds of user share."""

    abstract = True
    connection_timeout = 10.0
    network_timeout = 120.0
    chance = random.Random()

    def request(self, *, stream: bool) -> dict[str, object]:
        """The body of one chat completion."""
        question = prompt(self.chance, min(MAX_PROMPT_TOKENS, PROMPT_TOKENS.draw(self.chance)))
        return {
            "model": MODEL,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": min(MAX_TOKENS, ANSWER_TOKENS.draw(self.chance)),
            "stream": stream,
        }

    def headers(self) -> dict[str, str]:
        """The API key, if there is one."""
        return {"Authorization": f"Bearer {API_KEY}"} if API_KEY else {}


class Reader(ChatUser):
    """A person: asks, follows the stream, reads for a while, asks again."""

    weight = 3
    wait_time = between(1.0, 5.0)

    @task
    def chat(self) -> None:
        """One streamed answer, timed to its first content and between contents."""
        start_s = time.perf_counter()
        with self.client.post(
            PATH,
            name="chat (stream)",
            json=self.request(stream=True),
            headers=self.headers(),
            stream=True,
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            try:
                self._follow(response, start_s)
            except (BrokenStreamError, OSError) as error:
                response.failure(str(error))
            # Locust's own time of a streamed answer ends with its head.
            response.request_meta["response_time"] = (time.perf_counter() - start_s) * 1000

    def _follow(self, response: ResponseContextManager, start_s: float) -> None:
        times_s: list[float] = []
        length = 0
        for text in contents(iter(partial(response.stream.readline, b"\n"), b"")):
            times_s.append(time.perf_counter())
            length += len(text)
        if not times_s:
            raise BrokenStreamError("the stream had no content")
        self._report("TTFT", times_s[0] - start_s, length)
        if len(times_s) > 1:
            self._report("TPOT", (times_s[-1] - times_s[0]) / (len(times_s) - 1), length)

    def _report(self, metric: str, value_s: float, length: int) -> None:
        self.environment.events.request.fire(
            request_type=metric,
            name="chat (stream)",
            response_time=value_s * 1000,
            response_length=length,
            exception=None,
            context={},
        )


class Program(ChatUser):
    """A program: asks for whole answers, one right after another."""

    weight = 1
    wait_time = constant(0.0)

    @task
    def complete(self) -> None:
        """One whole answer, which must have a text."""
        with self.client.post(
            PATH,
            name="chat (whole)",
            json=self.request(stream=False),
            headers=self.headers(),
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif b'"content":' not in (response.content or b""):
                response.failure("an answer without a text")
