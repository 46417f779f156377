"""Log probabilities in the two shapes of the OpenAI API."""

from collections.abc import Sequence

from engines.huggingface.prompt import Prompter
from engines.huggingface.sampled import TokenScores
from serving.openai import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob

_LEAST = -9999.0
"""Stands for minus infinity, which JSON has no word for."""


def chat_logprobs(scored: Sequence[tuple[int, TokenScores]], prompter: Prompter) -> ChatLogprobs:
    """The chat shape: each token with its alternatives, as text and as bytes."""
    content = []
    for token, scores in scored:
        text, own = prompter.token(token)
        top = [
            TopLogprob(shown, _finite(value), list(raw))
            for other, value in scores.top
            for shown, raw in (prompter.token(other),)
        ]
        content.append(TokenLogprob(text, _finite(scores.chosen), list(own), top))
    return ChatLogprobs(content)


def completion_logprobs(
    scored: Sequence[tuple[int, TokenScores | None]], top: int, prompter: Prompter, offset: int
) -> CompletionLogprobs:
    """The completion shape: parallel lists. `offset` is the place of the first token in the text, in
    characters.

    The chosen token is always among the alternatives, so there are up to `top` + 1.
    """
    tokens: list[str] = []
    values: list[float | None] = []
    alternatives: list[dict[str, float] | None] = []
    offsets: list[int] = []
    for token, scores in scored:
        text, _ = prompter.token(token)
        tokens.append(text)
        offsets.append(offset)
        offset += len(text)
        values.append(None if scores is None else _finite(scores.chosen))
        if scores is None or not top:
            alternatives.append(None)
        else:
            best = {prompter.token(other)[0]: _finite(value) for other, value in scores.top}
            alternatives.append({text: _finite(scores.chosen)} | best)
    return CompletionLogprobs(tokens, values, alternatives, offsets)


def _finite(value: float) -> float:
    return max(value, _LEAST)
