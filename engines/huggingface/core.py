"""The engine's core on torch: runner, cache and sampler put together."""

import torch

from engines.huggingface.forward import Runner
from engines.huggingface.kv_cache import KvCache
from engines.huggingface.kv_shape import Limits
from engines.huggingface.sampled import RowState, Sampled, TokenScores
from engines.huggingface.sampler import sample, score


class TorchCore:
    """What the engine steps on. One thread owns it."""

    def __init__(self, runner: Runner, cache: KvCache, pass_tokens: int) -> None:
        self._runner = runner
        self._cache = cache
        self.limits: Limits = cache.limits
        self.pass_tokens = pass_tokens

    def reserve(self, rows: int, tokens: int) -> None:
        """Room in the cache for `rows` sequences, the longest of `tokens`."""
        with torch.inference_mode():
            self._cache.reserve(rows, tokens)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a row's first `tokens` to another row."""
        with torch.inference_mode():
            self._cache.move(source, target, tokens)

    def decode(self, tokens: list[int], positions: list[int], rows: list[RowState]) -> Sampled:
        """One more token for each of the first rows."""
        with torch.inference_mode():
            return sample(self._runner.decode(tokens, positions), rows)

    def prefill(self, first: int, chunks: list[list[int]], start: int, rows: list[RowState | None]) -> Sampled:
        """Prompt chunks for rows from `first` on; a token for those with a state, 0 for the others."""
        done = [row for row in rows if row is not None]
        with torch.inference_mode():
            logits = self._runner.prefill(first, chunks, start)
            # Only the last row can be unfinished.
            sampled = sample(logits[: len(done)], done) if done else Sampled([])
        sampled.tokens += [0] * (len(rows) - len(done))
        return sampled

    def score(
        self, first: int, chunk: list[int], start: int, following: list[int], top: int, row: RowState | None
    ) -> tuple[Sampled, list[TokenScores]]:
        """A chunk for one row, with the scores of the tokens that follow each of its tokens.

        Also a token after the chunk, if `row` is given.
        """
        with torch.inference_mode():
            logits = self._runner.score(first, chunk, start)
            scores = score(logits[: len(following)], following, top) if following else []
            return sample(logits[-1:], [row]) if row is not None else Sampled([0]), scores
