"""One sequence being generated: its tokens, its place in the cache, and the text it has given out."""

from random import Random

import msgspec
from msgspec.structs import replace

from engines.huggingface.adjustment import adjustment_for
from engines.huggingface.detokenize import Decoder, Detokenizer
from engines.huggingface.params import SamplingParams
from engines.huggingface.sampled import RowState, TokenScores
from engines.huggingface.schedule import Row
from engines.huggingface.stopping import shown


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What a step added to a sequence: text, the tokens it cost, their scores if asked for, and why it
    ended, if it did.
    """

    text: str = ""
    tokens: int = 0
    scores: tuple[tuple[int, TokenScores], ...] = ()
    finish_reason: str | None = None
    prompt_scores: tuple[TokenScores, ...] = ()
    error: str | None = None
    queued_s: float = 0.0


class Sequence:
    """Owned by the engine's thread once submitted. `key` names it; `ends` are the model's end-of-text
    tokens.
    """

    __slots__ = (
        "_adjustment",
        "_detokenizer",
        "_held",
        "_random",
        "_seed",
        "admitted_s",
        "arrived_s",
        "cached",
        "ends",
        "key",
        "params",
        "prompt_scores",
        "prompt_tokens",
        "tokens",
    )

    def __init__(
        self,
        key: int,
        prompt: list[int],
        params: SamplingParams,
        decoder: Decoder,
        eos: frozenset[int],
        choice: int = 0,
        arrived_s: float = 0.0,
    ) -> None:
        self.key = key
        self.params = params
        self.tokens = list(prompt)
        self.prompt_tokens = len(prompt)
        self.cached = 0
        self.prompt_scores: list[TokenScores] = []
        self.arrived_s = arrived_s
        self.admitted_s: float | None = None
        self.ends = params.stop_token_ids if params.ignore_eos else params.stop_token_ids | eos
        # Choices of one request must differ and yet be repeatable.
        self._seed = f"{params.seed}/{choice}"
        self._random: Random | None = None
        self._adjustment = adjustment_for(params, prompt, self.ends)
        self._detokenizer = Detokenizer(decoder, prompt, params.skip_special_tokens)
        self._held = ""

    @property
    def row(self) -> Row:
        """What the scheduler sees."""
        return Row(self.cached, len(self.tokens))

    @property
    def output_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - self.prompt_tokens

    def state(self) -> RowState:
        """What the sampler needs for the next token. Takes one draw."""
        return RowState(self.params, 0.0 if self.params.greedy else self._draw(), self._adjustment)

    def _draw(self) -> float:
        if self._random is None:
            # Made when first needed: it takes longer than the rest of a sequence, and greedy ones need none.
            self._random = Random(None if self.params.seed is None else self._seed)  # noqa: S311  # no secret
        return self._random.random()

    def scored_prompt(self, start: int, scores: list[TokenScores]) -> None:
        """Take the scores of what follows the prompt tokens from `start` on. After a preemption they come
        again.
        """
        end = min(start + len(scores), self.prompt_tokens - 1)
        self.prompt_scores[start:end] = scores[: max(0, end - start)]

    def advance(self, token: int, scores: TokenScores | None) -> Delta:
        """Take the next token; says what to give out."""
        if not self.params.max_tokens:
            return self._first(Delta(finish_reason="length"))
        self.tokens.append(token)
        count = self.output_tokens
        if self._adjustment is not None:
            self._adjustment.saw(token)
            if count >= self.params.min_tokens:
                self._adjustment.forbidden = frozenset()
        text, finish = self._text_of(token, count)
        delta = Delta(text, 1, () if scores is None else ((token, scores),), finish)
        return self._first(delta) if count == 1 else delta

    def _first(self, delta: Delta) -> Delta:
        """The first news of a sequence say more: the prompt's scores, and how long it waited."""
        waited = (self.admitted_s or self.arrived_s) - self.arrived_s
        return replace(delta, prompt_scores=tuple(self.prompt_scores), queued_s=waited)

    def _text_of(self, token: int, count: int) -> tuple[str, str | None]:
        """The text to show now, and why the sequence ends here, if it does."""
        if token in self.ends and count >= self.params.min_tokens:
            text = self._detokenizer.push(token) if self.params.include_stop else ""
            return self._show(text + self._detokenizer.flush(), count, "stop")
        text = self._detokenizer.push(token)
        if count >= self.params.max_tokens:
            return self._show(text + self._detokenizer.flush(), count, "length")
        if not self.params.stop:
            return text, None
        return self._show(text, count, None)

    def _show(self, new: str, count: int, finish: str | None) -> tuple[str, str | None]:
        text, new_from = self._held + new, len(self._held)
        if self.params.stop and count >= self.params.min_tokens:
            seen = shown(text, new_from, self.params.stop, self.params.include_stop)
            if seen.stop is not None:
                return text[: seen.upto], "stop"
            if finish is None:
                self._held = text[seen.upto :]
                return text[: seen.upto], None
        self._held = ""
        return text, finish
