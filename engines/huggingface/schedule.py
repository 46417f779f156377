"""Which sequences the next step works on. Pure.

Continuous batching: a step gives every running sequence with a known next token one more (decode), and
spends a bounded number of tokens on prompts (prefill), so that a long prompt slows running streams a little
instead of stopping them. Sequences join and leave between any two steps. Running sequences occupy rows 0..
without holes: those that decode first, then at most one whose prompt is half done; new ones are appended.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from engines.huggingface.kv_shape import BLOCK_TOKENS, Limits, fits


class Row(msgspec.Struct, frozen=True, gc=False):
    """A sequence: `cached_tokens` of its `known_tokens` (prompt and output so far) are in the key/value
    cache.
    """

    cached_tokens: int
    known_tokens: int

    @property
    def pending_tokens(self) -> int:
        """Tokens to run through the model before the next one can be sampled."""
        return self.known_tokens - self.cached_tokens


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step does.

    The last `preempt` running rows give their memory back and wait again, first in line. Then the first
    `decode` rows get one token. `resume` is how many tokens of the row after them go on, 0 if there is no
    such row. `admit` are the chunk sizes of the next waiting sequences, in order; all but the last are
    whole.
    """

    decode: int = 0
    resume: int = 0
    admit: tuple[int, ...] = ()
    preempt: int = 0
    longest_tokens: int = 0
    reasons: tuple[str, ...] = ()


def schedule(running: Sequence[Row], waiting: Sequence[Row], limits: Limits, prefill_tokens: int) -> Plan:
    """Pure. The next step for these rows; `prefill_tokens` bounds the prompt tokens it may work on.

    Raises:
        ValueError: a single sequence is longer than the cache; the front refuses such prompts.
    """
    longest = max((_after(row, prefill_tokens) for row in running), default=0)
    kept = len(running)
    while kept and not fits(kept, longest, limits):
        kept -= 1
        longest = max((_after(row, prefill_tokens) for row in running[:kept]), default=0)
    if running and not kept:
        raise ValueError(f"a sequence of {running[0].known_tokens} tokens does not fit {limits}")
    preempted = len(running) - kept
    if preempted:
        reason = f"{preempted} of {len(running)} sequences wait again: the key/value cache is full"
        return Plan(*_running(running[:kept], prefill_tokens), (), preempted, longest, (reason,))
    decode, resume = _running(running, prefill_tokens)
    admit, longest, reasons = _admit(waiting, kept, longest, limits, prefill_tokens - resume)
    return Plan(decode, resume, admit, 0, longest, reasons)


def _after(row: Row, prefill_tokens: int) -> int:
    """Cells of the row in use after the step."""
    return row.cached_tokens + min(row.pending_tokens, prefill_tokens)


def _running(rows: Sequence[Row], prefill_tokens: int) -> tuple[int, int]:
    """How many rows decode, and how many tokens of the one behind them go on."""
    if rows and rows[-1].pending_tokens > 1:
        return len(rows) - 1, min(rows[-1].pending_tokens, prefill_tokens)
    return len(rows), 0


def _admit(
    waiting: Sequence[Row], rows: int, longest: int, limits: Limits, left_tokens: int
) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
    """Chunk sizes of the waiting sequences that join, the longest row then, and why no more did."""
    chunks: list[int] = []
    for row in waiting:
        if rows >= limits.max_rows:
            return tuple(chunks), longest, (f"all {limits.max_rows} rows are taken",)
        if left_tokens <= 0:
            return tuple(chunks), longest, ("the step's prefill tokens are spent",)
        # One block to spare, or what joins now would push something out a few steps later.
        spare = BLOCK_TOKENS if rows else 0
        tokens = max(longest, row.known_tokens)
        if not fits(rows + 1, min(tokens + spare, limits.context_tokens), limits):
            return tuple(chunks), longest, ("the key/value cache has no room for the next sequence",)
        chunk = min(row.known_tokens, left_tokens)
        chunks.append(chunk)
        rows, longest, left_tokens = rows + 1, tokens, left_tokens - chunk
    return tuple(chunks), longest, ()


def passes(sizes: Sequence[int], pass_tokens: int) -> tuple[int, ...]:
    """Pure. How many of these prompt chunks go through the model together, pass by pass.

    Chunks in one pass are padded to its longest. A further pass is worth it once the padding it saves is
    more than `pass_tokens`, the tokens that could be worked on in the time a pass takes by itself. Sizes
    come best in order.
    """
    groups: list[int] = []
    count = total = width = 0
    for size in sizes:
        wider = max(width, size)
        if count and wider * (count + 1) - (total + size) > pass_tokens:
            groups.append(count)
            count = total = 0
            wider = size
        count, total, width = count + 1, total + size, wider
    return (*groups, count) if count else ()


def compact(kept: Sequence[bool], partial_last: bool) -> tuple[tuple[int, int], ...]:
    """Pure. Moves (source row, target row) that close the holes rows leave.

    `kept` says which rows stay; `partial_last` that the last row is one whose prompt is half done, which
    must stay behind those that decode. Every move takes the last decoding row into the first hole.
    """
    whole = len(kept) - (1 if partial_last else 0)
    moves = []
    low, high = 0, whole - 1
    while True:
        while low <= high and kept[low]:
            low += 1
        while high > low and not kept[high]:
            high -= 1
        if low >= high:
            break
        moves.append((high, low))
        low, high = low + 1, high - 1
    if partial_last and kept[-1] and low < whole:
        moves.append((whole, low))
    return tuple(moves)
