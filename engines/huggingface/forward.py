"""Running the model: token ids and positions in, the logits after each row's last token out.

A pass covers rows `first`.. of the key/value rectangle, all with the same number of new tokens. Rows with
fewer are padded on the left, so that every row's last token is the last column and the model need compute
no other logits. Padding attends to the row's first cell only, and its keys land behind the row's end, where
nothing attends to and later tokens overwrite.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engines.huggingface.kv_cache import KvCache, KvView

Step = Callable[..., Tensor]
"""`(ids, positions, at, *keys_values) -> logits` (rows, vocabulary)."""


@dataclass(frozen=True, slots=True)
class Masks:
    """What a model attends to. `window_tokens` is the sliding window, if any layer has one; `mixed` if only
    some layers do.
    """

    window_tokens: int | None = None
    mixed: bool = False


class Model(Protocol):
    """The part of a transformers causal language model that is used here."""

    def __call__(self, **kwargs: object) -> "Output": ...


class Output(Protocol):
    """Its answer."""

    logits: Tensor


def attention_mask(positions: Tensor, tokens: int, window_tokens: int | None, dtype: torch.dtype) -> Tensor:
    """The additive mask (rows, 1, queries, tokens): zero where a query at `positions` may look, else the
    least number.
    """
    cells = torch.arange(tokens, device=positions.device)
    query = positions[:, None, :, None]
    hidden = cells > query
    if window_tokens is not None:
        hidden = hidden | (cells <= query - window_tokens)
    zeros = torch.zeros(1, dtype=dtype, device=positions.device)
    return zeros.masked_fill(hidden, torch.finfo(dtype).min)


def step_of(model: Model, masks: Masks, dtype: torch.dtype, last_only: bool = True) -> Step:
    """The model as a function of tensors only, so that it can be traced. `last_only`: logits of the last
    column, else of all.
    """

    def step(ids: Tensor, positions: Tensor, at: Tensor, *keys_values: Tensor) -> Tensor:
        tokens = keys_values[0].shape[2]
        narrow = attention_mask(positions, tokens, masks.window_tokens, dtype)
        mask: object = narrow
        if masks.mixed:
            mask = {
                "full_attention": attention_mask(positions, tokens, None, dtype),
                "sliding_attention": narrow,
            }
        output = model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=KvView(keys_values, at),
            use_cache=True,
            logits_to_keep=1 if last_only else 0,
        )
        return output.logits[:, -1] if last_only else output.logits

    return step


@dataclass(frozen=True, slots=True)
class Steps:
    """The step for one new token per row, for several, and for several with the logits of all."""

    decode: Step
    prefill: Step
    score: Step


class Runner:
    """Runs passes over the rows of a cache. Not thread-safe: one thread owns it."""

    def __init__(self, steps: Steps, cache: KvCache, device: str) -> None:
        self._steps = steps
        self._cache = cache
        self._device = device

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """One token for each of the first rows, at its position. Returns logits (rows, vocabulary)."""
        inputs = torch.tensor((tokens, positions), device=self._device).unsqueeze(2)
        ids, at = inputs[0], inputs[1]
        return self._steps.decode(ids, at, at, *self._cache.views(0, len(tokens), max(positions) + 1))

    def prefill(self, first: int, chunks: Sequence[Sequence[int]], start: int) -> Tensor:
        """`chunks[i]` for row `first + i`, all from position `start`. Returns logits after each chunk
        (rows, vocabulary).
        """
        return self._run(self._steps.prefill, first, chunks, start)

    def score(self, first: int, chunk: Sequence[int], start: int) -> Tensor:
        """Like `prefill` for one row, with the logits after every token (tokens, vocabulary)."""
        return self._run(self._steps.score, first, [chunk], start)[0]

    def _run(self, step: Step, first: int, chunks: Sequence[Sequence[int]], start: int) -> Tensor:
        width = max(map(len, chunks))
        ids, positions, at = [], [], []
        for chunk in chunks:
            padding, end = width - len(chunk), start + len(chunk)
            ids.append([0] * padding + list(chunk))
            positions.append([0] * padding + list(range(start, end)))
            at.append([*range(end, end + padding), *range(start, end)])
        inputs = torch.tensor((ids, positions, at), device=self._device)
        views = self._cache.views(first, len(chunks), start + width)
        return step(inputs[0], inputs[1], inputs[2], *views)
