"""What a sequence remembers for the penalties and bans of its request. Knows no tensors."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from engines.huggingface.params import SamplingParams


@dataclass(slots=True)
class Adjustment:
    """The changes one row needs: tokens seen with their counts in the output, biases, and tokens that may
    not come.
    """

    params: SamplingParams
    counts: dict[int, int] = field(default_factory=dict)
    forbidden: frozenset[int] = frozenset()

    def saw(self, token: int) -> None:
        """Count one more token of output."""
        self.counts[token] = self.counts.get(token, 0) + 1


def adjustment_for(params: SamplingParams, prompt: Iterable[int], ends: frozenset[int]) -> Adjustment | None:
    """What a sequence with these parameters needs, None if nothing. `ends` are the tokens that would end
    it.
    """
    if not params.penalises and not params.logit_bias and not params.min_tokens:
        return None
    # The prompt counts for repetition only: seen, zero times in the output.
    counts = dict.fromkeys(prompt, 0) if params.repetition_penalty != 1 else {}
    return Adjustment(params, counts, ends if params.min_tokens else frozenset())
