"""The whole of Penstock, started once: gateway, engine and demo model as processes of their own."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAI

from engines.demo.questions import Pages, read_pages
from tests.flow.programs import ROOT, Stack, program, stack
from tests.flow.standin import MODELS, Standin, standin


@pytest.fixture(scope="session")
def pages() -> Pages:
    """What the demo model was taught."""
    return read_pages(ROOT / "docs" / "qa")


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`penstock up` with keys. It ends by SIGTERM, and nothing may be left then."""
    with stack(tmp_path_factory.mktemp("flow"), ("flow", "counted")) as started:
        yield started


@pytest.fixture
def client(flow: Stack) -> Iterator[OpenAI]:
    """The OpenAI client, as a user has it; it repeats nothing, so that every error is seen."""
    with OpenAI(base_url=flow.api, api_key=flow.keys["flow"], max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
async def async_client(flow: Stack) -> AsyncIterator[AsyncOpenAI]:
    """The same, asynchronous."""
    async with AsyncOpenAI(base_url=flow.api, api_key=flow.keys["flow"], max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
async def connections() -> AsyncIterator[DefaultAsyncHttpxClient]:
    """Connections for libraries that would keep their own open beyond the event loop of a test."""
    async with DefaultAsyncHttpxClient(timeout=60) as made:
        yield made


@pytest.fixture(scope="session")
def scripted() -> Iterator[Standin]:
    """An engine that does what its models' names say."""
    with standin() as started:
        yield started


@pytest.fixture(scope="session")
def scripted_api(scripted: Standin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of `penstock gateway` in front of that engine."""
    folder: Path = tmp_path_factory.mktemp("scripted")
    engines = [flag for model in MODELS for flag in ("--engine", f"{model}={scripted.url}")]
    with program(folder, ["gateway", "--port", "0", *engines], signal.SIGTERM) as started:
        yield started.until(r"serving on (http://127\.0\.0\.1:\d+)") + "/v1"
