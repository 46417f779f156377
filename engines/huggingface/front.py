"""The front of the engine: admits requests, hands them to the engine's thread, and hands its output to
whoever waits for it.

Lives on the event loop; the only things shared with the engine's thread are its inbox and one callback per
step.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from itertools import count
from random import Random
from time import perf_counter

from engines.huggingface.batch import Core
from engines.huggingface.engine import Engine, Produced
from engines.huggingface.loaded import Loaded
from engines.huggingface.metrics import Metrics
from engines.huggingface.params import SamplingParams
from engines.huggingface.prompt import Prompter
from engines.huggingface.request import Bounds
from engines.huggingface.sequence import Delta, Sequence
from engines.huggingface.ticket import Ticket
from serving.errors import Internal, NoEndpoint, Overloaded, ShuttingDown


class State(Enum):
    """Where an engine process is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Front:
    """Everything the HTTP routes need. Create it on the running event loop, then `start`."""

    def __init__(self, load: Callable[[], Loaded], max_batch: int, max_queue: int, prefill_tokens: int) -> None:
        self.state = State.LOADING
        self.error: Exception | None = None
        self.metrics = Metrics()
        self._load = load
        self._most = max_batch + max_queue
        self._loop = asyncio.get_running_loop()
        self._settled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tickets: dict[int, Ticket] = {}
        self._keys = count()
        self._ids = Random()  # noqa: S311  # names, no secrets
        self._loaded: Loaded | None = None
        self._prompter: Prompter | None = None
        self._engine = Engine(self._load_core, prefill_tokens, self._on_produced, self._on_ready)
        self.metrics.watch(self._engine.load)

    def start(self) -> None:
        """Begin to load the model."""
        self._engine.start()

    async def loaded(self) -> None:
        """Wait until the model is loaded or cannot be.

        Raises:
            Exception: whatever prevented it.
        """
        await self._settled.wait()
        if self.error is not None:
            raise self.error

    @property
    def healthy(self) -> bool:
        """False when steps keep failing: nothing short of a restart helps."""
        return self.state is not State.FAILED and not self._engine.load.broken

    @property
    def prompter(self) -> Prompter:
        """Turns messages and text into tokens.

        Raises:
            NoEndpoint: the model is not loaded yet.
            ShuttingDown: the engine is going away.
        """
        self._check_open()
        assert self._prompter is not None
        return self._prompter

    @property
    def bounds(self) -> Bounds:
        """What the loaded model allows."""
        assert self._loaded is not None
        return Bounds(self._loaded.context_tokens, self._loaded.vocabulary_tokens, self._loaded.defaults)

    def submit(self, prompts: list[list[int]], params: list[SamplingParams], n: int) -> Ticket:
        """Queue `n` choices for each prompt, all or none. Choices are numbered prompt by prompt.

        Raises:
            Overloaded: the waiting queue has no room for them.
            ShuttingDown, NoEndpoint: the engine takes no requests now.
        """
        self._check_open()
        assert self._loaded is not None
        wanted = len(prompts) * n
        if len(self._tickets) + wanted > self._most:
            self.metrics.refused.inc()
            raise Overloaded(
                f"the engine has {len(self._tickets)} sequences running or waiting, room for {self._most} in all"
            )
        keys = [next(self._keys) for _ in range(wanted)]
        ticket = Ticket(keys, perf_counter(), sum(map(len, prompts)), self._on_leave)
        decoder = self.prompter.decoder
        for number, key in enumerate(keys):
            which, choice = divmod(number, n)
            self._tickets[key] = ticket
            self._engine.submit(
                Sequence(key, prompts[which], params[which], decoder, self._loaded.eos, choice, ticket.arrived_s)
            )
        self._idle.clear()
        self.metrics.prompt_tokens.inc(ticket.prompt_tokens)
        return ticket

    def new_id(self) -> str:
        """A name for an answer, never given before. Not drawn from the system each time, which takes 0.2 ms."""
        return f"{self._ids.getrandbits(128):032x}"

    def drain(self) -> None:
        """Take nothing new from now on; what runs goes on."""
        self.state = State.DRAINING

    def abandon(self, why: str) -> None:
        """End everything that runs or waits with an error."""
        for key, ticket in list(self._tickets.items()):
            self._engine.abort(key)
            self._forget(key)
            ticket.push(key, Delta(finish_reason="error", error=why))

    async def idle(self) -> None:
        """Wait until nothing runs or waits."""
        await self._idle.wait()

    def stop(self, timeout_s: float) -> bool:
        """End the engine's thread; whether it ended in time."""
        return self._engine.stop(timeout_s)

    def _check_open(self) -> None:
        if self.state is State.LOADING:
            raise NoEndpoint("the model is still loading", retry_after_s=2)
        if self.state is State.DRAINING:
            raise ShuttingDown("this engine is shutting down")
        if not self.healthy:
            raise Internal("the engine is broken and must be restarted")

    def _load_core(self) -> Core:
        self._loaded = self._load()
        self._prompter = Prompter(self._loaded.tokenizer, self._loaded.context_tokens)
        return self._loaded.core

    def _on_ready(self, error: Exception | None) -> None:
        """On the engine's thread."""
        self._loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: Exception | None) -> None:
        self.error = error
        if self.state is State.LOADING:
            self.state = State.READY if error is None else State.FAILED
        self._settled.set()

    def _on_produced(self, produced: Produced) -> None:
        """On the engine's thread: one hand-over for all that a step produced."""
        self._loop.call_soon_threadsafe(self._deliver, produced)

    def _deliver(self, produced: Produced) -> None:
        tickets = self._tickets
        for key, delta in produced.deltas:
            ticket = tickets.get(key)
            if ticket is None:
                continue
            self.metrics.produced(ticket, key, delta, produced.at_s)
            if delta.finish_reason is not None:
                self._forget(key)
            ticket.push(key, delta)

    def _on_leave(self, unfinished: set[int]) -> None:
        for key in unfinished:
            self._engine.abort(key)
            self._forget(key)
            self.metrics.finished.labels("abort").inc()

    def _forget(self, key: int) -> None:
        self._tickets.pop(key, None)
        if not self._tickets:
            self._idle.set()
