"""The engine: a thread that loads a model and then steps through its sequences, all of them at once.

The thread owns the model, the cache and every sequence. Others talk to it through `submit` and `abort`,
which only leave a note in its inbox, read between two steps; and it talks to them through one call per step
with everything the step produced.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Protocol

import msgspec

from engines.huggingface.kv_shape import Limits
from engines.huggingface.sampled import RowState, Sampled, TokenScores
from engines.huggingface.schedule import Row, compact, schedule
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


class Core(Protocol):
    """The model, as the engine uses it: passes over rows of a cache, and sampling."""

    limits: Limits

    def reserve(self, rows: int, tokens: int) -> None: ...

    def move(self, source: int, target: int, tokens: int) -> None: ...

    def decode(self, tokens: list[int], positions: list[int], rows: list[RowState]) -> Sampled: ...

    def prefill(
        self, first: int, chunks: list[list[int]], start: int, rows: list[RowState | None]
    ) -> Sampled: ...

    def score(
        self, first: int, chunk: list[int], start: int, following: list[int], top: int, row: RowState | None
    ) -> tuple[Sampled, list[TokenScores]]: ...


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
        self._running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()
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
        self._ready(None)
        while self._read_inbox(core):
            if not self._running and not self._waiting:
                continue
            try:
                produced = self._step(core)
                self._failures = 0
            except Exception as error:
                _log.exception("a step failed; its sequences end with an error")
                produced = self._fail(error)
            self._account()
            if produced:
                self._produce(Produced(produced, perf_counter()))

    def _read_inbox(self, core: Core) -> bool:
        """Take in what has come; wait for something if there is nothing to do. False: stop."""
        wait = not self._running and not self._waiting
        aborted: set[int] = set()
        while True:
            try:
                note = self._inbox.get(wait)
            except Empty:
                break
            wait = False
            if note is None:
                return False
            if isinstance(note, int):
                aborted.add(note)
            else:
                self._waiting.append(note)
        if aborted:
            self._waiting = deque(s for s in self._waiting if s.key not in aborted)
            self._drop(core, aborted)
        self._account()
        return True

    def _account(self) -> None:
        self.load.running, self.load.waiting = len(self._running), len(self._waiting)
        self.load.cached_tokens = sum(s.cached for s in self._running)

    def _step(self, core: Core) -> list[tuple[int, Delta]]:
        plan = schedule(
            [s.row for s in self._running], _rows(self._waiting, core), core.limits, self._prefill_tokens
        )
        for _ in range(plan.preempt):
            self._preempt(self._running.pop())
        core.reserve(len(self._running) + len(plan.admit), plan.longest_tokens)
        produced: list[tuple[int, Delta]] = []
        if plan.decode:
            self._decode(core, self._running[: plan.decode], produced)
        if plan.resume:
            self._prefill(core, plan.decode, [plan.resume], produced)
        if plan.admit:
            first, now = len(self._running), perf_counter()
            for _ in plan.admit:
                sequence = self._waiting.popleft()
                sequence.admitted_s = sequence.admitted_s or now
                self._running.append(sequence)
            self._prefill_groups(core, first, plan.admit, produced)
        self._drop(core, {key for key, delta in produced if delta.finish_reason is not None})
        return produced

    def _decode(self, core: Core, rows: list[Sequence], produced: list[tuple[int, Delta]]) -> None:
        sampled = core.decode(
            [s.tokens[-1] for s in rows], [s.cached for s in rows], [s.state() for s in rows]
        )
        scores = sampled.scores
        for number, (sequence, token) in enumerate(zip(rows, sampled.tokens, strict=True)):
            sequence.cached += 1
            produced.append((sequence.key, sequence.advance(token, scores.get(number))))

    def _prefill_groups(
        self, core: Core, first: int, chunks: tuple[int, ...], produced: list[tuple[int, Delta]]
    ) -> None:
        """New rows in as few passes as possible: those whose prompt is scored go alone, the others
        together.
        """
        group: list[int] = []
        for number, chunk in enumerate(chunks):
            if self._running[first + number].params.score_prompt:
                if group:
                    self._prefill(core, first + number - len(group), group, produced)
                    group = []
                self._score(core, first + number, chunk, produced)
            else:
                group.append(chunk)
        if group:
            self._prefill(core, first + len(chunks) - len(group), group, produced)

    def _prefill(self, core: Core, first: int, chunks: list[int], produced: list[tuple[int, Delta]]) -> None:
        rows = self._running[first : first + len(chunks)]
        start = rows[0].cached
        if rows[0].params.score_prompt:
            self._score(core, first, chunks[0], produced)
            return
        parts = [s.tokens[start : start + size] for s, size in zip(rows, chunks, strict=True)]
        whole = [start + len(part) == len(s.tokens) for s, part in zip(rows, parts, strict=True)]
        states = [s.state() if done else None for s, done in zip(rows, whole, strict=True)]
        sampled = core.prefill(first, parts, start, states)
        for number, (sequence, part) in enumerate(zip(rows, parts, strict=True)):
            sequence.cached += len(part)
            if whole[number]:
                delta = sequence.advance(sampled.tokens[number], sampled.scores.get(number))
                produced.append((sequence.key, delta))

    def _score(self, core: Core, row: int, size: int, produced: list[tuple[int, Delta]]) -> None:
        """A chunk of a prompt whose own tokens are scored as well."""
        sequence = self._running[row]
        start, end = sequence.cached, sequence.cached + size
        following = sequence.tokens[start + 1 : end + 1]
        whole = end == len(sequence.tokens)
        state = sequence.state() if whole else None
        top = sequence.params.logprobs or 0
        sampled, scores = core.score(row, sequence.tokens[start:end], start, following, top, state)
        sequence.cached = end
        if len(sequence.prompt_scores) < sequence.prompt_tokens - 1:
            sequence.prompt_scores += scores
        if whole:
            produced.append((sequence.key, sequence.advance(sampled.tokens[0], sampled.scores.get(0))))

    def _drop(self, core: Core, keys: set[int]) -> None:
        """Take sequences out and close the holes they leave in the cache."""
        running = self._running
        if not keys or not running:
            return
        kept = [s.key not in keys for s in running]
        for source, target in compact(kept, running[-1].row.pending_tokens > 1):
            core.move(source, target, running[source].cached)
            running[target], kept[target] = running[source], True
            kept[source] = False
        self._running = [s for s, keep in zip(running, kept, strict=True) if keep]

    def _preempt(self, sequence: Sequence) -> None:
        sequence.cached = 0
        self._waiting.appendleft(sequence)
        self.load.preempted += 1

    def _fail(self, error: Exception) -> list[tuple[int, Delta]]:
        """End every running sequence; one more failure in a row than a few means that the engine is
        broken.
        """
        self._failures += 1
        self.load.broken = self._failures >= _BROKEN_AFTER_FAILURES
        failed = [(s.key, Delta(finish_reason="error", error=str(error))) for s in self._running]
        if not failed and self._waiting:
            failed = [(self._waiting.popleft().key, Delta(finish_reason="error", error=str(error)))]
        self._running = []
        return failed


def _rows(waiting: deque[Sequence], core: Core) -> list[Row]:
    """The waiting sequences that could join at most."""
    return [waiting[n].row for n in range(min(len(waiting), core.limits.max_rows))]
