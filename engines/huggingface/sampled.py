"""What goes into sampling a step's tokens, and what comes out. Knows no tensors."""

from dataclasses import dataclass, field

from engines.huggingface.adjustment import Adjustment
from engines.huggingface.params import SamplingParams


@dataclass(frozen=True, slots=True)
class RowState:
    """One row to sample: its parameters, one draw in [0, 1), and what must change in its logits first, if
    anything.
    """

    params: SamplingParams
    draw: float = 0.0
    adjustment: Adjustment | None = None


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Log probabilities of a chosen token and of the likeliest ones, best first."""

    chosen: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Sampled:
    """The token of each row, and the scores of the rows that asked for them."""

    tokens: list[int]
    scores: dict[int, TokenScores] = field(default_factory=dict)
