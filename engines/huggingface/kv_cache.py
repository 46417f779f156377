"""The key/value cache: one rectangle per layer, a row per running sequence, as transformers' models use it.

A model's forward pass sees `KvView`, which has the few methods of `transformers.Cache` that decoder-only
models call. It writes the new keys and values at given positions of the first (or some) rows and hands back
plain slices: nothing is gathered or copied, which on a CPU is most of the cost of a decode step with long
contexts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.huggingface.kv_shape import Limits, Shape, reshape


@dataclass(frozen=True, slots=True)
class LayerDims:
    """What one layer stores per token: heads, and the width of a key and of a value."""

    heads: int
    key_dim: int
    value_dim: int


class KvView:
    """What one forward pass sees of the cache: `at` (rows, tokens) says where its keys and values are
    written.
    """

    is_compileable = False
    is_sliding = (False,)

    def __init__(self, keys_values: Sequence[Tensor], at: Tensor) -> None:
        self._keys_values = keys_values
        self._rows = torch.arange(at.shape[0], device=at.device).unsqueeze(1)
        self._at = at

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Store the new keys and values of one layer; returns all of it."""
        all_keys, all_values = self._keys_values[2 * layer], self._keys_values[2 * layer + 1]
        # Indexing (rows, :, positions) puts the indexed axes first, hence the transposition.
        all_keys.transpose(1, 2).index_put_((self._rows, self._at), keys.transpose(1, 2))
        all_values.transpose(1, 2).index_put_((self._rows, self._at), values.transpose(1, 2))
        return all_keys, all_values

    def get_seq_length(self, _: int = 0) -> int:
        """Zero: positions are always given."""
        return 0

    def __len__(self) -> int:
        return len(self._keys_values) // 2


class KvCache:
    """The rectangle itself. Rows are numbered from 0; who owns a row is the engine's business."""

    def __init__(self, layers: Sequence[LayerDims], limits: Limits, dtype: torch.dtype, device: str) -> None:
        self._layers = tuple(layers)
        self._dtype, self.device = dtype, device
        self.limits = limits
        self.shape = Shape(0, 0)
        self._tensors: list[Tensor] = []

    def reserve(self, rows: int, tokens: int) -> None:
        """Make room for `rows` sequences, the longest of `tokens`. What is stored stays."""
        wanted = reshape(self.shape, rows, tokens, self.limits)
        if wanted != self.shape:
            kept = Shape(min(wanted.rows, self.shape.rows), min(wanted.tokens, self.shape.tokens))
            # One tensor at a time, so that only one of them exists twice.
            old, self._tensors = self._tensors, []
            for number, (heads, dim) in enumerate(self._dims()):
                # Zeros, not garbage: a masked NaN still poisons a softmax-weighted sum.
                new = torch.zeros(wanted.rows, heads, wanted.tokens, dim, dtype=self._dtype, device=self.device)
                if old:
                    new[: kept.rows, :, : kept.tokens] = old[number][: kept.rows, :, : kept.tokens]
                    old[number] = new
                self._tensors.append(new)
            self.shape = wanted

    def views(self, first: int, rows: int, tokens: int) -> list[Tensor]:
        """Rows `first`..`first + rows` of every layer's keys and values, `tokens` long. No copy."""
        return [t[first : first + rows, :, :tokens] for t in self._tensors]

    def scratch(self, rows: int, tokens: int) -> list[Tensor]:
        """Tensors like those of `views`, empty and nobody's."""
        return [
            torch.zeros(rows, heads, tokens, dim, dtype=self._dtype, device=self.device) for heads, dim in self._dims()
        ]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of a row into another."""
        for tensor in self._tensors:
            tensor[target, :, :tokens] = tensor[source, :, :tokens]

    def _dims(self) -> list[tuple[int, int]]:
        return [(d.heads, width) for d in self._layers for width in (d.key_dim, d.value_dim)]


def cell_bytes(layers: Sequence[LayerDims], element_bytes: int) -> int:
    """Bytes one token takes over all layers."""
    return sum(d.heads * (d.key_dim + d.value_dim) for d in layers) * element_bytes
