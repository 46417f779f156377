"""Choosing the next token of every row at once.

Log probabilities are those of the model's own distribution, before temperature, penalties and filters. A
drawn token depends on the row's logits, parameters and one uniform draw per token only, never on the rows
beside it: a row that filters draws from the sorted vocabulary, one that does not from the vocabulary in its
own order, whatever the other rows do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.huggingface.penalties import adjust
from engines.huggingface.sampled import RowState, Sampled, TokenScores

_CANDIDATES = 256
"""Sorted first; a full sort only where these do not carry `top_p` of the mass or `top_k` asks for more."""


def sample(logits: Tensor, rows: Sequence[RowState]) -> Sampled:
    """The next token for each row of `logits` (rows, vocabulary), which may be changed in place."""
    if all(row.params.greedy and row.adjustment is None and row.params.logprobs is None for row in rows):
        return Sampled(logits.argmax(-1).tolist())
    logits = logits.float()
    wanted = [n for n, row in enumerate(rows) if row.params.logprobs is not None]
    raw = logits[wanted] if wanted else None
    adjustments = [(n, row.adjustment) for n, row in enumerate(rows) if row.adjustment is not None]
    if adjustments:
        logits = adjust(logits.clone() if raw is not None else logits, adjustments)
    tokens = _choose(logits, rows)
    sampled = Sampled(tokens)
    if raw is not None:
        most = max(rows[n].params.logprobs or 0 for n in wanted)
        for n, scores in zip(wanted, score(raw, [tokens[n] for n in wanted], most), strict=True):
            sampled.scores[n] = TokenScores(scores.chosen, scores.top[: rows[n].params.logprobs])
    return sampled


def score(logits: Tensor, chosen: Sequence[int], top: int) -> list[TokenScores]:
    """Log probabilities of the `chosen` token of each row of `logits`, and of its `top` likeliest."""
    logprobs = torch.log_softmax(logits.float(), -1)
    picked = logprobs.gather(1, torch.tensor(chosen, device=logits.device).unsqueeze(1)).squeeze(1).tolist()
    if not top:
        return [TokenScores(value) for value in picked]
    best = logprobs.topk(min(top, logits.shape[-1]), dim=-1)
    alternatives = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        TokenScores(value, tuple(zip(ids, values, strict=True)))
        for value, (ids, values) in zip(picked, alternatives, strict=True)
    ]


def _choose(logits: Tensor, rows: Sequence[RowState]) -> list[int]:
    """Greedy rows by the largest logit, the others by their draw."""
    plain = [n for n, row in enumerate(rows) if not row.params.greedy and not row.params.filters]
    filtered = [n for n, row in enumerate(rows) if not row.params.greedy and row.params.filters]
    if len(plain) + len(filtered) < len(rows):
        tokens: list[int] = logits.argmax(-1).tolist()
    else:
        tokens = [0] * len(rows)
    for group, draw in ((plain, _draw_plain), (filtered, _draw_filtered)):
        if group:
            chosen = draw(_tempered(logits, rows, group), [rows[n] for n in group])
            for n, token in zip(group, chosen, strict=True):
                tokens[n] = token
    return tokens


def _tempered(logits: Tensor, rows: Sequence[RowState], group: list[int]) -> Tensor:
    """The logits of these rows over their temperatures, less their largest so that a tiny temperature
    cannot overflow.
    """
    taken = logits if len(group) == len(rows) else logits[group]
    taken = taken - taken.amax(-1, keepdim=True)
    return taken / _column([max(rows[n].params.temperature, 1e-5) for n in group], logits)


def _draw_plain(logits: Tensor, rows: Sequence[RowState]) -> list[int]:
    return _invert(torch.softmax(logits, -1), rows).squeeze(1).tolist()  # type: ignore[no-any-return]  # Tensor.tolist is Any


def _draw_filtered(logits: Tensor, rows: Sequence[RowState]) -> list[int]:
    probabilities = torch.softmax(logits, -1)
    values, indices = _sorted(probabilities, rows)
    places = torch.arange(values.shape[1], device=values.device)
    vocabulary = probabilities.shape[1]
    top_k = _column([row.params.top_k or vocabulary for row in rows], values)
    kept = torch.where(places < top_k, values, 0)
    # top_p applies to what top_k left, as in the reference implementations. The first token always stays.
    mass = kept.cumsum(-1)
    full = torch.where(top_k < vocabulary, mass[:, -1:], 1.0)
    before = mass - kept
    kept = torch.where((before < _column([row.params.top_p for row in rows], values) * full), kept, 0)
    kept = torch.where(kept >= _column([row.params.min_p for row in rows], values) * values[:, :1], kept, 0)
    return indices.gather(1, _invert(kept, rows)).squeeze(1).tolist()  # type: ignore[no-any-return]  # Tensor.tolist is Any


def _sorted(probabilities: Tensor, rows: Sequence[RowState]) -> tuple[Tensor, Tensor]:
    """Probabilities from the largest down, with their tokens, as far as any row can need them."""
    vocabulary = probabilities.shape[1]
    count = min(vocabulary, max(_CANDIDATES, *(row.params.top_k for row in rows), 0))
    values, indices = probabilities.topk(count, dim=-1)
    if count < vocabulary:
        mass = values.sum(-1).tolist()
        enough = (
            0 < row.params.top_k <= count or (row.params.top_p < 1 and have >= row.params.top_p) or last
            for row, have, last in zip(rows, mass, _min_p_ends(values, rows), strict=True)
        )
        if not all(enough):
            values, indices = probabilities.sort(dim=-1, descending=True)
    return values, indices


def _min_p_ends(values: Tensor, rows: Sequence[RowState]) -> list[bool]:
    """Per row, whether `min_p` cuts off before the last of the sorted values."""
    least = values[:, 0] * torch.tensor([row.params.min_p for row in rows], device=values.device)
    return (values[:, -1] < least).tolist()  # type: ignore[no-any-return]  # Tensor.tolist is Any


def _invert(weights: Tensor, rows: Sequence[RowState]) -> Tensor:
    """Per row, the place where the cumulative weight passes `draw` of the whole: (rows, 1)."""
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    at = _column([row.draw for row in rows], cumulative) * total
    # Places of weight zero never pass; rounding up to the total itself would pass none.
    at = torch.minimum(at, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, at, right=True)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)
