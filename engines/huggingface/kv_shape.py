"""How large the key/value rectangle is: rows by tokens. Pure.

All running sequences live in one rectangle, a row each, so that a decode step reads a plain slice of it and
copies nothing. The price is that every row is as long as the longest. The rectangle therefore changes shape
with the load: many short rows or few long ones, and never more than `budget_tokens` cells.
"""

from dataclasses import dataclass

BLOCK_TOKENS = 64
"""Lengths are rounded up to this, so that the rectangle is not reshaped for every token."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the cache may hold: `max_rows` sequences of at most `context_tokens`, `budget_tokens` cells in
    all.
    """

    max_rows: int
    context_tokens: int
    budget_tokens: int


@dataclass(frozen=True, slots=True)
class Shape:
    """Rows and tokens of a rectangle."""

    rows: int
    tokens: int

    @property
    def cells(self) -> int:
        """Tokens the rectangle has room for."""
        return self.rows * self.tokens

    def holds(self, rows: int, tokens: int) -> bool:
        """Whether this many rows of this length fit."""
        return rows <= self.rows and tokens <= self.tokens


def rounded(tokens: int, limits: Limits) -> int:
    """Pure. `tokens` rounded up to whole blocks, at most the context."""
    return min(limits.context_tokens, -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS)


def fits(rows: int, tokens: int, limits: Limits) -> bool:
    """Pure. Whether `rows` sequences, the longest of `tokens`, fit the budget together."""
    return rows <= limits.max_rows and rows * rounded(tokens, limits) <= limits.budget_tokens


def reshape(current: Shape, rows: int, tokens: int, limits: Limits) -> Shape:
    """Pure. The rectangle to hold `rows` sequences, the longest of `tokens`: the current one where it does.

    A longer one grows by half, so that a growing sequence costs a constant number of copies per token; all
    rows the budget allows are taken at once, because rows come and go faster than lengths change.

    Raises:
        ValueError: they do not fit the budget.
    """
    if current.holds(rows, tokens):
        return current
    if not fits(rows, tokens, limits):
        raise ValueError(f"{rows} rows of {tokens} tokens do not fit {limits.budget_tokens} cells")
    least = rounded(tokens, limits)
    grown = current.tokens * 3 // 2 if tokens > current.tokens else 0
    generous = max(least, rounded(grown, limits))
    length = generous if generous * rows <= limits.budget_tokens else least
    return Shape(min(limits.max_rows, limits.budget_tokens // length), length)
