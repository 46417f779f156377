"""The engine's core on torch: runner, cache and sampler put together."""

import torch

from engines.huggingface.forward import Runner
from engines.huggingface.kv_cache import KvCache
from engines.huggingface.kv_shape import Limits
from engines.huggingface.sampler import RowState, Sampled, TokenScores, sample, score


class TorchCore:
    """What the engine steps on. One thread owns it."""

    def __init__(self, runner: Runner, cache: KvCache) -> None:
        self._runner = runner
        self._cache = cache
        self.limits: Limits = cache.limits

    @torch.inference_mode()
    def reserve(self, rows: int, tokens: int) -> None:
        """Room in the cache for `rows` sequences, the longest of `tokens`."""
        self._cache.reserve(rows, tokens)

    @torch.inference_mode()
    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a row's first `tokens` to another row."""
        self._cache.move(source, target, tokens)

    @torch.inference_mode()
    def decode(self, tokens: list[int], positions: list[int], rows: list[RowState]) -> Sampled:
        """One more token for each of the first rows."""
        return sample(self._runner.decode(tokens, positions), rows)

    @torch.inference_mode()
    def prefill(
        self, first: int, chunks: list[list[int]], start: int, rows: list[RowState | None]
    ) -> Sampled:
        """Prompt chunks for rows from `first` on; a token for those with a state, 0 for the others."""
        logits = self._runner.prefill(first, chunks, start)
        done = [row for row in rows if row is not None]
        if len(done) == len(rows):
            return sample(logits, done)
        # Only the last row can be unfinished.
        sampled = sample(logits[: len(done)], done) if done else Sampled([])
        return Sampled(sampled.tokens + [0] * (len(rows) - len(done)), sampled.scores)

    @torch.inference_mode()
    def score(
        self, first: int, chunk: list[int], start: int, following: list[int], top: int, row: RowState | None
    ) -> tuple[Sampled, list[TokenScores]]:
        """A chunk for one row, with the scores of the tokens that follow each of its tokens; a token if `row` is given."""
        logits = self._runner.score(first, chunk, start)
        scores = score(logits[: len(following)], following, top) if following else []
        return sample(logits[-1:], [row]) if row is not None else Sampled([0]), scores
