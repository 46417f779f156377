"""The sequences that run and wait, and one step over them.

Sequences that run own the rows 0.. of the core's cache, in the order of `Batch.running`: those that decode
first, then at most one whose prompt is half done. Nothing here knows threads or clocks.
"""

from collections import deque
from typing import Protocol

from engines.huggingface.kv_shape import Limits
from engines.huggingface.sampled import RowState, Sampled, TokenScores
from engines.huggingface.schedule import Plan, compact, passes, schedule
from engines.huggingface.sequence import Delta, Sequence

Produced = list[tuple[int, Delta]]
"""What each sequence, by key, got from a step."""


class Core(Protocol):
    """The model as a batch uses it: passes over rows of a cache, and sampling.

    `pass_tokens` is how many prompt tokens could be worked on in the time a pass takes by itself.
    """

    limits: Limits
    pass_tokens: int

    def reserve(self, rows: int, tokens: int) -> None: ...

    def move(self, source: int, target: int, tokens: int) -> None: ...

    def decode(self, tokens: list[int], positions: list[int], rows: list[RowState]) -> Sampled: ...

    def prefill(self, first: int, chunks: list[list[int]], start: int, rows: list[RowState | None]) -> Sampled: ...

    def score(
        self, first: int, chunk: list[int], start: int, following: list[int], top: int, row: RowState | None
    ) -> tuple[Sampled, list[TokenScores]]: ...


class Batch:
    """Everything one core works on. `preempted` counts sequences put back to wait."""

    def __init__(self, core: Core, prefill_tokens: int) -> None:
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.preempted = 0
        self._core = core
        self._prefill_tokens = prefill_tokens

    @property
    def cached_tokens(self) -> int:
        """Cells of the cache in use."""
        return sum(s.cached for s in self.running)

    def drop(self, keys: set[int]) -> None:
        """Take sequences out, wherever they are, and close the holes they leave in the cache."""
        if any(s.key in keys for s in self.waiting):
            self.waiting = deque(s for s in self.waiting if s.key not in keys)
        self._leave(keys)

    def step(self, now_s: float) -> Produced:
        """One step; what it produced. Sequences that ended are gone from the batch."""
        core = self._core
        plan = self._plan()
        for _ in range(plan.preempt):
            self._preempt(self.running.pop())
        core.reserve(len(self.running) + len(plan.admit), plan.longest_tokens)
        produced: Produced = []
        if plan.decode:
            self._decode(self.running[: plan.decode], produced)
        if plan.resume:
            self._prefill(plan.decode, [plan.resume], produced)
        if plan.admit:
            self._admit(plan, now_s, produced)
        ended = {key for key, delta in produced if delta.finish_reason is not None}
        if ended:
            self._leave(ended)
        return produced

    def fail(self) -> list[int]:
        """Drop what runs, or what would run next; the keys."""
        failed = self.running or [self.waiting.popleft() for _ in range(min(1, len(self.waiting)))]
        self.running = []
        return [s.key for s in failed]

    def _plan(self) -> Plan:
        most = self._core.limits.max_rows - len(self.running)
        waiting = [self.waiting[n].row for n in range(min(len(self.waiting), most))]
        return schedule([s.row for s in self.running], waiting, self._core.limits, self._prefill_tokens)

    def _decode(self, rows: list[Sequence], produced: Produced) -> None:
        sampled = self._core.decode([s.tokens[-1] for s in rows], [s.cached for s in rows], [s.state() for s in rows])
        scores = sampled.scores
        for number, (sequence, token) in enumerate(zip(rows, sampled.tokens, strict=True)):
            sequence.cached += 1
            produced.append((sequence.key, sequence.advance(token, scores.get(number))))

    def _admit(self, plan: Plan, now_s: float, produced: Produced) -> None:
        """Let waiting sequences join, in as few passes as is worth it."""
        joining = [(self.waiting.popleft(), chunk) for chunk in plan.admit]
        for sequence, _ in joining:
            sequence.admitted_s = sequence.admitted_s or now_s
        # Only the last can be cut short, and it must stay behind the others; those go by length to save padding.
        whole = joining if joining[-1][1] == joining[-1][0].row.known_tokens else joining[:-1]
        joining = sorted(whole, key=lambda pair: (pair[0].params.score_prompt, pair[1])) + joining[len(whole) :]
        first = len(self.running)
        self.running += [sequence for sequence, _ in joining]
        sizes = [chunk for _, chunk in joining]
        plain = sum(not sequence.params.score_prompt for sequence, _ in joining[: len(whole)])
        groups = (*passes(sizes[:plain], self._core.pass_tokens), *(1 for _ in sizes[plain:]))
        for size in groups:
            self._prefill(first, sizes[:size], produced)
            first, sizes = first + size, sizes[size:]

    def _prefill(self, first: int, chunks: list[int], produced: Produced) -> None:
        """Chunks for the rows from `first` on, all of which begin at the same position."""
        rows = self.running[first : first + len(chunks)]
        if rows[0].params.score_prompt:
            self._score(first, chunks[0], produced)
            return
        start = rows[0].cached
        parts = [s.tokens[start : start + size] for s, size in zip(rows, chunks, strict=True)]
        for sequence, part in zip(rows, parts, strict=True):
            sequence.cached += len(part)
        whole = [not s.row.pending_tokens for s in rows]
        states = [s.state() if done else None for s, done in zip(rows, whole, strict=True)]
        sampled = self._core.prefill(first, parts, start, states)
        for number, sequence in enumerate(rows):
            if whole[number]:
                delta = sequence.advance(sampled.tokens[number], sampled.scores.get(number))
                produced.append((sequence.key, delta))

    def _score(self, row: int, size: int, produced: Produced) -> None:
        """A chunk of a prompt whose own tokens are scored as well."""
        sequence = self.running[row]
        start, end = sequence.cached, sequence.cached + size
        following = sequence.tokens[start + 1 : end + 1]
        whole = end == len(sequence.tokens)
        state = sequence.state() if whole else None
        top = sequence.params.logprobs or 0
        sampled, scores = self._core.score(row, sequence.tokens[start:end], start, following, top, state)
        sequence.cached = end
        sequence.scored_prompt(start, scores)
        if whole:
            produced.append((sequence.key, sequence.advance(sampled.tokens[0], sampled.scores.get(0))))

    def _leave(self, keys: set[int]) -> None:
        running = self.running
        kept = [s.key not in keys for s in running]
        if all(kept):
            return
        for source, target in compact(kept, running[-1].row.pending_tokens > 1):
            self._core.move(source, target, running[source].cached)
            running[target], kept[target], kept[source] = running[source], True, False
        self.running = [s for s, keep in zip(running, kept, strict=True) if keep]

    def _preempt(self, sequence: Sequence) -> None:
        sequence.cached = 0
        self.waiting.appendleft(sequence)
        self.preempted += 1
