"""What the shapes have in common, and the pieces that several of them use."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """An object of the API. Fields that are not named here are allowed everywhere and reach the engine."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True, protected_namespaces=())


class StreamOptions(Shape):
    """Options of a stream; only with `stream: true`."""

    include_usage: bool | None = None
    """Send one more chunk before `[DONE]`, with `usage` and no choices."""


class TokenDetails(Shape):
    """Tokens by kind."""

    cached_tokens: int | None = None
    """Prompt tokens found in the engine's prefix cache."""
    reasoning_tokens: int | None = None
    """Generated tokens that were reasoning."""


class Usage(Shape):
    """Tokens a request cost."""

    prompt_tokens: int
    """Tokens of the prompt."""
    completion_tokens: int | None = None
    """Tokens generated."""
    total_tokens: int
    """Both together."""
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class Sampling(Shape):
    """How tokens are chosen. The first five are OpenAI's; the rest are what engines add to them."""

    temperature: float | None = None
    """0 to 2. 0 always takes the likeliest token; higher is more random."""
    top_p: float | None = None
    """0 to 1. Choose among the likeliest tokens that together have this probability."""
    frequency_penalty: float | None = None
    """-2 to 2. Positive values make tokens less likely the more often they have appeared."""
    presence_penalty: float | None = None
    """-2 to 2. Positive values make tokens that have appeared less likely."""
    seed: int | None = None
    """The same seed and request give the same answer, as far as the engine can."""
    logit_bias: dict[str, float] | None = None
    """Added to the logit of a token, by token id; -100 to 100."""
    top_k: int | None = None
    """Engine extension: choose among this many of the likeliest tokens."""
    min_p: float | None = None
    """Engine extension: leave out tokens less likely than this share of the likeliest."""
    repetition_penalty: float | None = None
    """Engine extension: above 1, tokens that have appeared are less likely."""
    min_tokens: int | None = None
    """Engine extension: generate at least this many tokens."""
    ignore_eos: bool | None = None
    """Engine extension: go on after the end-of-text token."""
    stop_token_ids: list[int] | None = None
    """Engine extension: token ids that end the answer."""


class Caller(Shape):
    """Who and what a request is for."""

    user: str | None = None
    """The end user, as a name that means nothing outside; passed on to the engine."""
    metadata: dict[str, Any] | None = None
    """Up to 16 pairs of text, kept with the answer where the engine does so."""
    store: bool | None = None
    """Keep the answer, where the engine does so."""
    service_tier: str | None = None
    """Passed on to the engine."""
    safety_identifier: str | None = None
    """Passed on to the engine."""
    prompt_cache_key: str | None = None
    """Requests with the same key share their prompt cache, where the engine does so."""
    prompt_cache_retention: str | None = None
    """Passed on to the engine."""
