"""What changes a row's logits before a token is chosen: penalties, biases, forbidden tokens.

All of it is sparse: only tokens that occurred, or that the request names, are touched, in one gather and
one scatter for all rows together. Definitions are those of the OpenAI API (presence, frequency: over the
output) and of transformers (repetition: over prompt and output; positive logits are divided by it, negative
ones multiplied).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from engines.huggingface.adjustment import Adjustment

_NEVER = -1e30


def adjust(logits: Tensor, rows: Sequence[tuple[int, Adjustment]]) -> Tensor:
    """Apply each row's adjustment to `logits` (rows, vocabulary) in place; returns it."""
    _penalise(logits, [(n, a) for n, a in rows if a.params.penalises and a.counts])
    _add(logits, [(n, a.params.logit_bias) for n, a in rows if a.params.logit_bias])
    _add(logits, [(n, dict.fromkeys(a.forbidden, _NEVER)) for n, a in rows if a.forbidden])
    return logits


def _penalise(logits: Tensor, rows: Sequence[tuple[int, Adjustment]]) -> None:
    if not rows:
        return
    sizes = torch.tensor([len(a.counts) for _, a in rows], device=logits.device)
    at = torch.tensor([n for n, _ in rows], device=logits.device).repeat_interleave(sizes)
    tokens = torch.tensor([t for _, a in rows for t in a.counts], device=logits.device)
    counts = torch.tensor([c for _, a in rows for c in a.counts.values()], dtype=logits.dtype, device=logits.device)

    def each(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=logits.dtype, device=logits.device).repeat_interleave(sizes)

    repetition = each([a.params.repetition_penalty for _, a in rows])
    seen = logits[at, tokens]
    seen = torch.where(seen > 0, seen / repetition, seen * repetition)
    seen = seen - each([a.params.frequency_penalty for _, a in rows]) * counts
    seen = seen - each([a.params.presence_penalty for _, a in rows]) * (counts > 0)
    logits[at, tokens] = seen


def _add(logits: Tensor, rows: Sequence[tuple[int, Mapping[int, float]]]) -> None:
    if not rows:
        return
    at = torch.tensor([n for n, biases in rows for _ in biases], device=logits.device)
    tokens = torch.tensor([t for _, biases in rows for t in biases], device=logits.device)
    values = [v for _, biases in rows for v in biases.values()]
    logits[at, tokens] += torch.tensor(values, dtype=logits.dtype, device=logits.device)
