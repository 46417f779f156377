"""The engine: a thread that loads a model and then steps through its sequences, all of them at once.

The thread owns the model, the cache and every sequence. Others talk to it through `submit` and `abort`,
which only leave a note in its inbox, read between two steps; and it talks to them through one call per step
with everything the step produced.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter

import msgspec

from engines.huggingface.batch import Batch, Core
from engines.huggingface.sequence import Delta, Sequence

_log = logging.getLogger("penstock.engine")
_BROKEN_AFTER_FAILURES = 3


class Produced(msgspec.Struct, frozen=True, gc=False):
    """One step's output: what each sequence (by key) got, and when (`perf_counter` seconds)."""

    deltas: list[tuple[int, Delta]]
    at_s: float


@dataclass(slots=True)
class Load:
    """How busy the engine is. Written by its thread, read by anyone."""

    running: int = 0
    waiting: int = 0
    cached_tokens: int = 0
    budget_tokens: int = 1
    preempted: int = 0
    broken: bool = False

    @property
    def kv_usage(self) -> float:
        """Share of the cache in use, 0..1."""
        return self.cached_tokens / self.budget_tokens


class Engine:
    """Steps through sequences on a thread of its own.

    `load` builds the core (on that thread); `ready` is called with None when it is loaded or with the error
    that prevented it; `produce` gets every step's output. Both are called on the engine's thread and must
    return at once.
    """

    def __init__(
        self,
        load: Callable[[], Core],
        prefill_tokens: int,
        produce: Callable[[Produced], None],
        ready: Callable[[Exception | None], None],
    ) -> None:
        self.load = Load()
        self._load_core = load
        self._prefill_tokens = prefill_tokens
        self._produce, self._ready = produce, ready
        self._inbox: SimpleQueue[Sequence | int | None] = SimpleQueue()
        self._failures = 0
        self._thread = Thread(target=self._run, name="penstock-engine", daemon=True)

    def start(self) -> None:
        """Start the thread; it loads the model first."""
        self._thread.start()

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence. From any thread."""
        self._inbox.put(sequence)

    def abort(self, key: int) -> None:
        """Stop a sequence before its next step; nothing if it has ended. From any thread."""
        self._inbox.put(key)

    def stop(self, timeout_s: float) -> bool:
        """End the thread after the step it is in; whether it ended within `timeout_s`."""
        self._inbox.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            core = self._load_core()
        except Exception as error:
            self._ready(error)
            return
        self.load.budget_tokens = core.limits.budget_tokens
        batch = Batch(core, self._prefill_tokens)
        self._ready(None)
        try:
            self._work(batch)
        except Exception:
            _log.exception("the engine's thread failed")
            self.load.broken = True

    def _work(self, batch: Batch) -> None:
        """Step until told to stop."""
        while self._read_inbox(batch):
            if batch.running or batch.waiting:
                deltas = self._step(batch)
                self._account(batch)
                if deltas:
                    self._produce(Produced(deltas, perf_counter()))

    def _read_inbox(self, batch: Batch) -> bool:
        """Take in what has come; wait for something if there is nothing to do. False: stop."""
        wait = not batch.running and not batch.waiting
        aborted: set[int] = set()
        changed = False
        while True:
            try:
                note = self._inbox.get(wait)
            except Empty:
                break
            wait, changed = False, True
            if note is None:
                return False
            if isinstance(note, int):
                aborted.add(note)
            else:
                batch.waiting.append(note)
        if aborted:
            batch.drop(aborted)
        if changed:
            self._account(batch)
        return True

    def _step(self, batch: Batch) -> list[tuple[int, Delta]]:
        try:
            deltas = batch.step(perf_counter())
        except Exception as error:
            _log.exception("a step failed; its sequences end with an error")
            self._failures += 1
            self.load.broken = self._failures >= _BROKEN_AFTER_FAILURES
            return [(key, Delta(finish_reason="error", error=str(error))) for key in batch.fail()]
        self._failures = 0
        return deltas

    def _account(self, batch: Batch) -> None:
        load = self.load
        load.running, load.waiting = len(batch.running), len(batch.waiting)
        load.cached_tokens, load.preempted = batch.cached_tokens, batch.preempted
